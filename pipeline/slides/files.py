"""Which files a slide is made of: one, a DICOM series, a MIRAX folder, or what a Hamamatsu index file names.

OpenSlide opens any of them by one file and says nothing of the others, so this is where a slide of several files is
recognised as one: `scan` lists it once, and its identity covers them all.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.errors import SlideUnavailable

if TYPE_CHECKING:
    from pydicom.tag import BaseTag

MIRAX, HAMAMATSU = ".mrxs", (".vms", ".vmu")
"""Suffixes of index files beside a folder of the same name, and of ones that name the images beside them."""
_SERIES = 0x0020000E
_PREAMBLE = 128
_NAMED = re.compile(
    r"^\s*(?:ImageFile(?:\(.*?\))?|MapFile|OptimisationFile|MacroImage)\s*=\s*(\S.*?)\s*$", re.MULTILINE | re.IGNORECASE
)


def files_of(path: Path) -> tuple[Path, ...]:
    """All files of the slide that `path` opens, sorted, `path` among them.

    Of DICOM those of its series in its folder, since that is where OpenSlide looks for them. Raises `SlideUnavailable`
    where one is missing.
    """
    suffix = path.suffix.lower()
    if suffix == MIRAX:
        return tuple(sorted({path, *(file for file in path.with_suffix("").rglob("*") if file.is_file())}))
    if suffix in HAMAMATSU:
        return tuple(sorted({path, *_named_by(path)}))
    series = series_of(path)
    if series is None:
        return (path,)
    found = _series_in(path.parent, path.parent.stat().st_mtime_ns)
    return tuple(sorted({path, *found.get(series, ())}))


def series_of(path: Path) -> str | None:
    """The series instance UID of a DICOM file, whatever its name; None for any other file, and one without it."""
    try:
        with open(path, "rb") as file:
            if file.read(_PREAMBLE + 4)[_PREAMBLE:] != b"DICM":
                return None
    except OSError:
        return None
    # Here, since most slides are of other formats.
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_partial

    try:
        with open(path, "rb") as file:
            # The series comes early; the functional groups of every frame, which come later, are long.
            found = read_partial(file, stop_when=_beyond_series)
    except (InvalidDicomError, OSError, EOFError, ValueError, NotImplementedError):
        return None
    uid = found.get(_SERIES)
    return None if uid is None else str(uid.value)


@lru_cache(maxsize=16)
def _series_in(folder: Path, mtime_ns: int) -> dict[str, list[Path]]:
    """The DICOM files of each series in a folder; kept, since every slide of a folder asks for all of it."""
    found: dict[str, list[Path]] = {}
    for file in folder.iterdir():
        series = series_of(file) if file.is_file() else None
        if series is not None:
            found.setdefault(series, []).append(file)
    return found


def _beyond_series(tag: BaseTag, vr: str | None, length: int) -> bool:
    return int(tag) > _SERIES


def _named_by(index: Path) -> list[Path]:
    """The files that a Hamamatsu index names, in its folder."""
    names = _NAMED.findall(index.read_text(encoding="utf-8", errors="replace"))
    paths = [index.parent / name for name in names]
    for path in paths:
        if not path.is_file():
            fix = f"copy it, and all that {index.name} names, beside it"
            raise SlideUnavailable(f"file not found: {path.name}", where=index.name, fix=fix)
    return paths
