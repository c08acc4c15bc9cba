"""One slide's files being written: hidden, owned by their living maker, renamed when they are whole.

    .<file>.partial/<uuid>.owner     its maker's, for as long as it lives (pipeline/base/living)
    .<file>.partial/<uuid>/<i>/…     the i-th of the slide's files

Several processes, on any machines, may write to one folder: who owns the slide makes it, and the others go on to the
next. What a dead owner left goes when somebody else begins that slide.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import EmbedError
from pipeline.base.living import unfinished
from pipeline.base.partials import FULL, READ_ONLY
from pipeline.base.syncing import sync_tree
from pipeline.embed.patch_form import PatchForm
from pipeline.embed.token_file import TokenFile


class Claim:
    """The right to write `finals`, the last of which says whose they are. `take` gives it out."""

    def __init__(self, finals: Sequence[Path], owned: unfinished.Claim) -> None:
        self.finals, self._owned = tuple(finals), owned

    @classmethod
    def take(cls, finals: Sequence[Path]) -> Claim | None:
        """None where another process, or another thread, has it. Raises `EmbedError` where nothing can be written."""
        final = finals[-1]
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            owned = unfinished.claim_alone(final.with_name(f".{final.name}.partial"))
        except OSError as error:
            raise written(error, final) from error
        return None if owned is None else cls(finals, owned)

    @property
    def partials(self) -> tuple[Path, ...]:
        """Where to write, for each of `finals` a path of the same name."""
        return tuple(self._owned.folder / str(i) / final.name for i, final in enumerate(self.finals))

    def commit(self) -> None:
        """Put what was written in its place."""
        sync_tree(self._owned.folder)
        for partial, final in zip(self.partials, self.finals, strict=True):
            if not partial.exists():
                continue
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.is_dir():
                os.rename(final, partial.with_name("aged"))
            os.replace(partial, final)

    def token_file(self, form: PatchForm) -> TokenFile:
        """Room for the slide's patch tokens beside its files. Raises `EmbedError` where there is none."""
        try:
            return TokenFile(self._owned.folder, form)
        except OSError as error:
            raise written(error, self.finals[-1]) from error

    def release(self) -> None:
        """Give the right back, and leave nothing."""
        self._owned.drop()


def written(error: OSError, where: Path) -> EmbedError:
    """What a person is told where writing fails."""
    if error.errno in FULL:
        fix = "free some space, or give an --out on a larger disk; run again, and it goes on where it was"
        return EmbedError(f"no room left: {error.strerror}", where=str(where), fix=fix)
    fix = "make it writable, or give another --out" if error.errno in READ_ONLY else "is the disk it lies on well?"
    return EmbedError(f"cannot write: {error.strerror}", where=str(where), fix=fix)
