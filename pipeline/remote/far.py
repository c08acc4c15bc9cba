"""The large files of an item in the bucket, read by ranges through the pages that this machine keeps.

A file of up to `WHOLE` bytes is one page and is held to the sha256 by which it was committed. Of a larger one the pages
that are asked for come, neighbouring ones in one request, and are held to their length alone: nothing in an item says
what a part of a shard should be. (Their object is addressed by the item's checksums, and never written over.)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.base.arrays.far import Span
from pipeline.base.errors import RemoteError
from pipeline.base.partials import StoredFile
from pipeline.base.types import Array
from pipeline.remote.objects import Objects
from pipeline.remote.pages import Pages, pages_at

PAGE, WHOLE = 1 << 20, 8 << 20
AT_ONCE = 16 << 20
"""Bytes of a request at most."""
_ATTEMPTS = 3


@dataclass(frozen=True)
class FarItem:
    """Files by name, as objects in `folder` below the objects' URL."""

    objects: Objects
    pages: Pages
    folder: str
    files: Mapping[str, StoredFile]

    def __reduce__(self) -> tuple[Callable[..., FarItem], tuple[object, ...]]:
        """Pages are a process's own; the parts that they keep are the machine's."""
        return _again, (self.objects, self.pages.folder, self.pages.limit, self.folder, dict(self.files))

    def holds(self, name: str) -> bool:
        """Whether that file lies in the bucket."""
        return name in self.files

    def view(self, name: str, start: int, stop: int) -> Array:
        """Bytes [start, stop) of a file, (stop - start,) uint8, read-only. Raises `RemoteError`."""
        size = self._page_nbytes(name)
        units = range(start // size, (stop - 1) // size + 1)
        found = {unit: self.pages.at(self._key(name, unit)) for unit in units}
        came = self._bring(name, [unit for unit, page in found.items() if page is None])
        pages = {unit: came[unit] if page is None else page for unit, page in found.items()}
        parts = [page[max(0, start - unit * size) : stop - unit * size] for unit, page in pages.items()]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def prepare(self, name: str, spans: Iterable[Span]) -> None:
        """Have the pages here that those bytes lie in. Raises `RemoteError`."""
        size = self._page_nbytes(name)
        units = {unit for start, stop in spans for unit in range(start // size, (stop - 1) // size + 1)}
        self._bring(name, [unit for unit in sorted(units) if not self.pages.has(self._key(name, unit))])

    def _bring(self, name: str, units: list[int]) -> dict[int, Array]:
        """Pages that are not here, each once for all threads that ask."""
        if not units:
            return {}
        keys = {self._key(name, unit): unit for unit in units}
        mine, others = self.pages.claim(keys)
        try:
            for first, last in _runs([keys[key] for key in mine], AT_ONCE // PAGE):
                start, stop = first * self._page_nbytes(name), (last + 1) * self._page_nbytes(name)
                data = memoryview(self._read(name, start, min(stop, self.files[name]["nbytes"])))
                for unit in range(first, last + 1):
                    offset = unit * self._page_nbytes(name) - start
                    key = self._key(name, unit)
                    mine[key].set_result(self.pages.put(key, data[offset : offset + self._page_nbytes(name)]))
        except BaseException as error:
            for future in mine.values():
                if not future.done():
                    future.set_exception(error)
            raise
        finally:
            self.pages.release(mine)
        return {keys[key]: future.result() for key, future in (mine | others).items()}

    def _read(self, name: str, start: int, stop: int) -> bytes:
        entry, where = self.files[name], f"{self.folder}/{name}"
        for _ in range(_ATTEMPTS):
            try:
                data = self.objects.read(where, start, stop)
            except FileNotFoundError:
                break
            whole = stop - start == entry["nbytes"]
            if len(data) == stop - start and (not whole or hashlib.sha256(data).hexdigest() == entry["sha256"]):
                return data
        fix = "whoever has the item whole: `histill store push --again`; or make it anew with HISTILL_STORE_REMOTE=none"
        what = "its bytes in the bucket are not those that were sent"
        raise RemoteError(what, where=f"{self.objects.url}/{where}", fix=fix)

    def _page_nbytes(self, name: str) -> int:
        nbytes = self.files[name]["nbytes"]
        return nbytes if nbytes <= WHOLE else PAGE

    def _key(self, name: str, unit: int) -> str:
        of = hashlib.sha256(f"{self.objects.url}/{self.folder}/{name}".encode()).hexdigest()[:32]
        return f"{of}-{unit}"


def _again(objects: Objects, pages: Path, limit: int, folder: str, files: dict[str, StoredFile]) -> FarItem:
    return FarItem(objects, pages_at(pages, limit, os.getpid()), folder, files)


def _runs(units: list[int], most: int) -> list[Span]:
    """First and last of each run of neighbours, of at most so many."""
    found: list[Span] = []
    for unit in sorted(units):
        if found and unit == found[-1][1] + 1 and unit - found[-1][0] < most:
            found[-1] = found[-1][0], unit
        else:
            found.append((unit, unit))
    return found
