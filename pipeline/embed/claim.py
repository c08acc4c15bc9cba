"""One slide's files being written: hidden, locked by their living owner, renamed when they are whole.

Several processes may write to one folder: who holds the lock makes the slide, and the others go on to the next. The
kernel gives the lock back when its owner dies, however it dies, so that the next process begins that slide anew.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import EmbedError
from pipeline.base.partials import FULL, READ_ONLY
from pipeline.base.syncing import sync_tree

_LOCK_FILE = ".lock"


class Claim:
    """The right to write `finals`, the last of which says whose they are. `take` gives it out."""

    def __init__(self, finals: Sequence[Path], folder: Path, lock: int) -> None:
        self.finals, self._folder, self._lock = tuple(finals), folder, lock

    @classmethod
    def take(cls, finals: Sequence[Path]) -> Claim | None:
        """None where another process, or another thread, has it. Raises `EmbedError` where nothing can be written."""
        final = finals[-1]
        folder = final.with_name(f".{final.name}.partial")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _lock(folder)
        except OSError as error:
            raise written(error, final) from error
        if lock is None:
            return None
        for path in folder.iterdir():
            # Of an owner that died.
            if path.name != _LOCK_FILE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return cls(finals, folder, lock)

    @property
    def partials(self) -> tuple[Path, ...]:
        """Where to write, for each of `finals` a path of the same name."""
        return tuple(self._folder / str(i) / final.name for i, final in enumerate(self.finals))

    def commit(self) -> None:
        """Put what was written in its place, and give the right back."""
        sync_tree(self._folder)
        for partial, final in zip(self.partials, self.finals, strict=True):
            if not partial.exists():
                continue
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.is_dir():
                os.rename(final, partial.with_name("aged"))
            os.replace(partial, final)
        self.release()

    def release(self) -> None:
        """Give the right back, and leave nothing."""
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)


def _lock(folder: Path) -> int | None:
    """An open, locked file descriptor, or None where somebody alive has it, or has just removed the folder."""
    try:
        handle = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    if os.fstat(handle).st_nlink == 0:
        os.close(handle)
        return None
    return handle


def written(error: OSError, where: Path) -> EmbedError:
    """What a person is told where writing fails."""
    if error.errno in FULL:
        fix = "free some space, or give an --out on a larger disk; run again, and it goes on where it was"
        return EmbedError(f"no room left: {error.strerror}", where=str(where), fix=fix)
    fix = "make it writable, or give another --out" if error.errno in READ_ONLY else "is the disk it lies on well?"
    return EmbedError(f"cannot write: {error.strerror}", where=str(where), fix=fix)
