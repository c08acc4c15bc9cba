"""Whether the system gives a file's bytes at all: a disk that fails is told from a file that is damaged.

Decoders report both alike. What they could not decode is only then the file's own fault when all of its bytes can be
read; else the slide is to be looked at again once its disk, its network or its permissions are mended.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.base.errors import SlideUnavailable
from pipeline.cluster.refusals import unread

_BLOCK, _ENDS = 8 << 20, 16 << 20
_NOTES = (b"version https://git-lfs.github.com", b"/annex/objects/")
"""How the notes begin that git LFS and git-annex leave in place of a file that they have not fetched."""


def require_content(path: Path) -> None:
    """Raises `SlideUnavailable` where a file is a note of git LFS or git-annex and its content elsewhere."""
    with open(path, "rb") as file:
        begin = file.read(64)
    if begin.startswith(_NOTES):
        fix = "git lfs pull, or git annex get, fetches it"
        raise SlideUnavailable("a note of git in place of the slide, which is not here", where=path.name, fix=fix)


def require_given(paths: Iterable[Path], *, whole: bool) -> None:
    """Read each file, all of it or its two ends of 16 MiB. Raises `SlideUnavailable` where that fails."""
    for path in paths:
        try:
            _read(path, whole)
        except OSError as error:
            raise unread(error, f"{path.name} cannot be read", path.name) from None


def _read(path: Path, whole: bool) -> None:
    with open(path, "rb", buffering=0) as file:
        begun = 0
        while data := file.read(_BLOCK):
            begun += len(data)
            if not whole and begun >= _ENDS:
                whole = True
                file.seek(max(begun, path.stat().st_size - _ENDS))
