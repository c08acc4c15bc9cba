"""A slide that the table names by URL (`s3://…`): fetched for as long as it is read, into a bounded folder.

    <store>/.slides/<digest of the URL>/readers/       a file owned by each who reads the slide (base/living/owners.py)
    <store>/.slides/<digest of the URL>/busy/          the claim of the one who fetches or drops it
    <store>/.slides/<digest of the URL>/told.json      size and version (ETag) of the object that is here
    <store>/.slides/<digest of the URL>/<file>         the slide; `<file>.part` while it comes

Owners are told from dead ones with and without locks in the file system. Who reads says so before looking whether
somebody is busy, and who drops is busy before looking for readers: one of the two sees the other.

Slides that nobody reads stay until there is no room for another, the least recently read dropped first. A fetch that
was cut goes on at its byte, unless the object is another one by then. OpenSlide opens files alone and makes the
identity, so the whole file comes, once for `slides` and `tiles` where the bound allows.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.base.errors import HistillError, ParamsError, SlideRefused, SlideUnavailable
from pipeline.base.files import human, write_json
from pipeline.base.living.owners import OWNER_SUFFIX, Owner, is_living, own
from pipeline.base.living.unfinished import claim_alone
from pipeline.base.partials import store_errors
from pipeline.remote.address import checked
from pipeline.remote.objects import Objects, Told
from pipeline.slides.files import HAMAMATSU, MIRAX, series_of

FOLDER = ".slides"
BLOCK = 16 << 20
_WAIT_S = 0.5
SEVERAL_FILES = (MIRAX, *HAMAMATSU, ".dcm")
T = TypeVar("T")
READERS, BUSY = "readers", "busy"
_TOLD, _PART = "told.json", ".part"


@dataclass(frozen=True)
class FarSlide:
    """A slide's URL, the folder of slides that were fetched, and how many bytes that may hold."""

    url: str
    root: Path
    limit: int

    @classmethod
    def at(cls, url: str, root: Path, limit: int) -> FarSlide:
        """`root` is the store's.

        Raises `SlideRefused`, which does not repeat the URL, for one that holds a secret or is of several files.
        """
        try:
            whole = checked(url)
        except ParamsError as error:
            raise SlideRefused(f"its path will not do: {error.what}", fix=error.fix) from None
        if Path(whole).suffix.lower() in SEVERAL_FILES:
            fix = "copy the slide here, all of its files, and give the path"
            raise SlideRefused("a slide of several files is not fetched by URL", fix=fix)
        return cls(whole, root, limit)

    @property
    def file(self) -> Path:
        """Where the slide is while it is leased."""
        return self._folder / self.url.rpartition("/")[2]

    @property
    def nbytes(self) -> int:
        """Its size, as the bucket says it; nothing is fetched. Raises `SlideUnavailable`."""
        return self._told().nbytes

    @contextlib.contextmanager
    def leased(self) -> Iterator[Path]:
        """The slide's file, fetched if need be, which nobody drops until the block ends. Raises `SlideUnavailable`."""
        with store_errors(self._folder):
            (self._folder / READERS).mkdir(parents=True, exist_ok=True)
        reader = self._reading(self._told())
        try:
            os.utime(self._folder)
            yield self.file
        finally:
            reader.release()

    def _reading(self, told: Told) -> Owner:
        """Who reads from here on, the slide's file being here."""
        while True:
            with store_errors(self._folder):
                reader = own(self._folder / READERS / f"{uuid.uuid4().hex}{OWNER_SUFFIX}")
            try:
                if not _living(self._folder / BUSY):
                    if self._has(told):
                        return reader
                    claim = claim_alone(self._folder / BUSY)
                    if claim is not None:
                        try:
                            self._bring(told, reader)
                            return reader
                        finally:
                            claim.drop()
            except BaseException:
                reader.release()
                raise
            # Not a reader while it waits: who is busy may wait for readers of what lay here before.
            reader.release()
            time.sleep(_WAIT_S)

    @property
    def _folder(self) -> Path:
        return self.root / FOLDER / hashlib.sha256(self.url.encode()).hexdigest()[:32]

    @property
    def _object(self) -> tuple[Objects, str]:
        above, _, name = self.url.rpartition("/")
        return Objects(above), name

    def _has(self, told: Told) -> bool:
        """Whether the object of that size and version is here, whole."""
        return _read(self._folder / _TOLD) == told and self.file.is_file() and self.file.stat().st_size == told.nbytes

    def _bring(self, told: Told, reader: Owner) -> None:
        part = self.file.with_name(f"{self.file.name}{_PART}")
        if _read(self._folder / _TOLD) != told:
            while _living(self._folder / READERS) - {reader.path}:
                time.sleep(_WAIT_S)
            self.file.unlink(missing_ok=True)
            part.unlink(missing_ok=True)
            write_json(self._folder / _TOLD, {"nbytes": told.nbytes, "version": told.version}, sync=False)
        if self._has(told):
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
    """Delete a slide that nobody reads or fetches; False where somebody does."""
    claim = claim_alone(folder / BUSY)
    if claim is None:
        return False
    try:
        if _living(folder / READERS):
            return False
        for file in [*folder.iterdir(), *(folder / READERS).glob("*")]:
            if file.is_file():
                file.unlink(missing_ok=True)
    finally:
        claim.drop()
    return True


def _living(folder: Path) -> set[Path]:
    """The files in a folder whose owners live."""
    return {path for path in folder.glob(f"[!.]*{OWNER_SUFFIX}") if is_living(path)}


def _nbytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file() and file.name != _TOLD)


def _read(file: Path) -> Told | None:
    try:
        found = json.loads(file.read_bytes())
        return Told(int(found["nbytes"]), str(found["version"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
