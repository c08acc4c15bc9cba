"""What slides were the last time that the stage looked at them, so that a slide nobody has touched is not opened again.

    <store>/.looked/<digest of the table's path>.json    by path: the file's marks, what else counted, the slide

What a slide is (identity.py) knows no times. Whether it has to be looked at again is another question, and there all
that can tell is asked: of the file, and of those that the table names beside it, size, inode, time of modification and
of change (which no program can set back), and the bytes at its two ends; the table's resolution; the code of this room
and the libraries that read. A change of any of these, and the slide is opened. A file that was changed within seconds
of the look is not remembered, since clocks of file systems have ticks; nor are slides of several files, of folders and
in buckets.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import time
from importlib import metadata
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.base.files import write_atomic
from pipeline.base.items import SlideFile
from pipeline.base.types import Frozen
from pipeline.slides.files import HAMAMATSU, MIRAX, series_of
from pipeline.slides.sources import Source

FOLDER = ".looked"
LIBRARIES = ("openslide-python", "openslide-bin", "tifffile", "pydicom")
_END = 1 << 13
"""Bytes at either end of a file that are compared."""
_TICK_S = 5.0
_STALE_S = 30 * 86400.0
"""After which what was remembered of a table that nobody reads any more goes."""


class Looked(Frozen):
    """One slide; `marks` of its file and of those beside it, in a fixed order."""

    marks: tuple[str, ...]
    slide: SlideFile


_ALL = TypeAdapter(dict[str, Looked])


class Memory:
    """What is remembered of a table's slides; `save` writes what was kept or found again."""

    def __init__(self, root: Path, table: Path) -> None:
        self._file = root / FOLDER / f"{hashlib.sha256(str(table.absolute()).encode()).hexdigest()[:32]}.json"
        self._kept: dict[str, Looked] = {}
        self._before: dict[str, Looked] = {}
        with contextlib.suppress(OSError, ValidationError):
            self._before = _ALL.validate_json(self._file.read_bytes())

    def marks(self, source: Source) -> tuple[str, ...] | None:
        """Of a slide as it is now, to be taken before it is opened; None where that is of no use."""
        if source.kind != "file" or source.far is not None or source.path.suffix.lower() in (MIRAX, *HAMAMATSU):
            return None
        files = (source.path, source.mask, source.coords, source.features)
        try:
            found = tuple("" if file is None else mark(str(file)) for file in files)
        except OSError:
            return None
        return (_made_by(), repr(source.mpp), *found)

    def find(self, source: Source, marks: tuple[str, ...] | None) -> SlideFile | None:
        """The slide as it was, where all marks are the same."""
        known = self._before.get(str(source.path))
        if known is None or known.marks != marks:
            return None
        self._kept[str(source.path)] = known
        return known.slide.model_copy(update={"id": source.slide_id})

    def features(self, source: Source) -> tuple[str, str] | None:
        """The mark of its file of features when it was looked at, and its digest; None where that was not kept."""
        known = self._before.get(str(source.path))
        if known is None or source.features is None or known.slide.features is None:
            return None
        return known.marks[-1], known.slide.features

    def keep(self, source: Source, marks: tuple[str, ...] | None, slide: SlideFile) -> None:
        """Remember a slide that was opened after its marks were taken."""
        if marks is not None and series_of(source.path) is None and not _just_changed(source):
            self._kept[str(source.path)] = Looked(marks=marks, slide=slide)

    def save(self) -> None:
        """Write it; where that cannot be, slides are opened the next time."""
        if self._kept == self._before:
            return
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._file, _ALL.dump_json(self._kept), sync=False)
            for other in self._file.parent.glob("*.json"):
                if time.time() - other.stat().st_mtime > _STALE_S:
                    other.unlink()


def mark(file: str) -> str:
    """Of a file that is opened for it: on NFS that asks the server. Raises OSError."""
    handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        told = os.fstat(handle)
        ends = hashlib.blake2b(os.pread(handle, _END, 0), digest_size=16)
        if told.st_size > _END:
            ends.update(os.pread(handle, _END, max(_END, told.st_size - _END)))
    finally:
        os.close(handle)
    return f"{told.st_size} {told.st_ino} {told.st_mtime_ns} {told.st_ctime_ns} {ends.hexdigest()}"


def _just_changed(source: Source) -> bool:
    files = (file for file in (source.path, source.mask, source.coords, source.features) if file is not None)
    try:
        return any(abs(time.time() - file.stat().st_ctime) < _TICK_S for file in files)
    except FileNotFoundError:
        # Gone since it was looked at, which is for who reads it next.
        return True


@functools.cache
def _made_by() -> str:
    """The code of this room and the libraries that read slides."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    found.update(json.dumps(versions, sort_keys=True).encode())
    return found.hexdigest()[:32]
