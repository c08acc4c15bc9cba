"""A slide that the table names by URL (`s3://…`): fetched for as long as it is read, into a bounded folder.

    <store>/.slides/<digest of the URL>/lease          locked by whoever reads or fetches the slide
    <store>/.slides/<digest of the URL>/told.json      size and version (ETag) of the object that is here
    <store>/.slides/<digest of the URL>/<file>         the slide; `<file>.part` while it comes

Slides that nobody reads stay until there is no room for another, the least recently read dropped first. A fetch that
was cut goes on at its byte, unless the object is another one by then. OpenSlide opens files alone and makes the
identity, so the whole file comes, once for `slides` and `tiles` where the bound allows.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.base.errors import HistillError, ParamsError, SlideRefused, SlideUnavailable
from pipeline.base.files import human, write_json
from pipeline.base.partials import store_errors
from pipeline.remote.address import checked
from pipeline.remote.objects import Objects, Told
from pipeline.slides.files import HAMAMATSU, MIRAX, series_of

FOLDER = ".slides"
BLOCK = 16 << 20
_WAIT_S = 0.5
_SEVERAL_FILES = (MIRAX, *HAMAMATSU, ".dcm")
T = TypeVar("T")
_LEASE, _TOLD, _PART = "lease", "told.json", ".part"


@dataclass(frozen=True)
class FarSlide:
    """A slide's URL, the folder of slides that were fetched, and how many bytes that may hold."""

    url: str
    root: Path
    limit: int

    @classmethod
    def at(cls, url: str, root: Path, limit: int) -> FarSlide:
        """Raises `SlideRefused`, which does not repeat the URL, for one that holds a secret or is of several files."""
        try:
            whole = checked(url)
        except ParamsError as error:
            raise SlideRefused(f"its path will not do: {error.what}", fix=error.fix) from None
        if Path(whole).suffix.lower() in _SEVERAL_FILES:
            fix = "copy the slide here, all of its files, and give the path"
            raise SlideRefused("a slide of several files is not fetched by URL", fix=fix)
        return cls(whole, root, limit)

    @property
    def file(self) -> Path:
        """Where the slide is while it is leased."""
        return self._folder / self.url.rpartition("/")[2]

    @contextlib.contextmanager
    def leased(self) -> Iterator[Path]:
        """The slide's file, fetched if need be, which nobody drops until the block ends. Raises `SlideUnavailable`."""
        with store_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / _LEASE, "a") as lease:
            while True:
                _lock(lease.fileno(), fcntl.LOCK_EX)
                self._bring()
                # Between the two locks somebody who needs room may take it.
                _lock(lease.fileno(), fcntl.LOCK_SH)
                if self.file.is_file():
                    break
            os.utime(self._folder)
            yield self.file

    @property
    def _folder(self) -> Path:
        return self.root / FOLDER / hashlib.sha256(self.url.encode()).hexdigest()[:32]

    @property
    def _object(self) -> tuple[Objects, str]:
        above, _, name = self.url.rpartition("/")
        return Objects(above), name

    def _bring(self) -> None:
        told, part = self._told(), self.file.with_name(f"{self.file.name}{_PART}")
        if _read(self._folder / _TOLD) != told:
            self.file.unlink(missing_ok=True)
            part.unlink(missing_ok=True)
            write_json(self._folder / _TOLD, {"nbytes": told.nbytes, "version": told.version}, sync=False)
        if self.file.is_file() and self.file.stat().st_size == told.nbytes:
            return
        self._make_room(told.nbytes)
        objects, name = self._object
        with store_errors(part), open(part, "ab") as out:
            while (have := out.tell()) < told.nbytes:
                data = self._asked(lambda: objects.read(name, have, min(have + BLOCK, told.nbytes)))
                if not data:
                    break
                out.write(data)
        if part.stat().st_size != told.nbytes:
            raise SlideUnavailable("the bucket gives fewer bytes of it than it says", fix="run again")
        # It may have been written over while it came, and be half of each.
        if self._told() != told:
            part.unlink()
            raise SlideUnavailable("it changed in the bucket while it was fetched", fix="run again")
        os.replace(part, self.file)
        if series_of(self.file) is not None:
            raise SlideRefused("a DICOM slide is not fetched by URL", fix="copy all files of its series here")

    def _told(self) -> Told:
        objects, name = self._object
        told = self._asked(lambda: objects.told(name))
        if told is None:
            raise SlideUnavailable(f"not in the bucket: {self.url}", fix="mend its path, or send it there")
        return told

    def _asked(self, ask: Callable[[], T]) -> T:
        """What the bucket answers; its refusals are the slide's own, and may pass."""
        try:
            return ask()
        except FileNotFoundError:
            raise SlideUnavailable(f"not in the bucket: {self.url}", fix="mend its path, or send it there") from None
        except SlideRefused:
            raise
        except HistillError as error:
            fix = "is there a way to it, and may you read it (`aws s3 ls`, `gcloud storage ls`)? then run again"
            raise SlideUnavailable(f"{error.what} ({self.url})", fix=fix) from None

    def _make_room(self, nbytes: int) -> None:
        """Drop slides that nobody reads, the least recently read first, until this one fits; wait for those read."""
        if nbytes > self.limit:
            fix = f"slides.fetch_gb: {nbytes / 1e9:.0f} or more"
            raise SlideUnavailable(f"{human(nbytes)} are more than fetched slides may take", fix=fix)
        while True:
            others = [path for path in (self.root / FOLDER).iterdir() if path != self._folder]
            sizes = {path: _nbytes(path) for path in sorted(others, key=lambda path: path.stat().st_mtime_ns)}
            excess = sum(sizes.values()) + nbytes - self.limit
            for path, size in sizes.items():
                if excess > 0 and size and _dropped(path):
                    excess -= size
            if excess <= 0:
                return
            time.sleep(_WAIT_S)


def _dropped(folder: Path) -> bool:
    """Delete a slide that nobody reads or fetches; False where somebody does. Its lease stays, for who waits at it."""
    with open(folder / _LEASE, "a") as lease:
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        for file in folder.iterdir():
            if file.name != _LEASE:
                file.unlink(missing_ok=True)
    return True


def _lock(handle: int, how: int) -> None:
    # Where the file system has no locks, a slide that is read may be dropped: it is read from its descriptors on.
    with contextlib.suppress(OSError):
        fcntl.flock(handle, how)


def _nbytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.name not in (_LEASE, _TOLD))


def _read(file: Path) -> Told | None:
    try:
        found = json.loads(file.read_bytes())
        return Told(int(found["nbytes"]), str(found["version"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
