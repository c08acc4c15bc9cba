"""Parts of objects kept on this machine up to a bound, the least recently used of them dropped first.

A file a part, in one folder that every process of the machine may share: written under another name and renamed, its
last four bytes a CRC-32 by which half a file, after a power cut, is found and dropped. When a part was last used is its
modification time, set anew every few seconds while it is used; what a process reads it maps, so that a part that
another process drops stays whole for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import threading
import time
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.base.maps import map_file
from pipeline.base.partials import store_errors
from pipeline.base.types import Array

_CRC_NBYTES = 4
_SHARE = 16
"""After so much of the bound has come, 1 / `_SHARE`, it is looked what there is, and room made for as much again."""
_MAPPED = 2048
"""Parts that a process holds mapped."""
_TOUCH_S = 5.0
_ABANDONED_S = 600.0
"""Half a part that nobody has written to for so long is a killed process's."""


@dataclass
class _Mapped:
    values: Array
    touched_s: float


class Pages:
    """Parts by key (letters, digits, `-`), at most `limit` bytes of them. Of many threads and processes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._mapped: OrderedDict[str, _Mapped] = OrderedDict()
        self._coming: dict[str, Future[Array]] = {}
        self._lock = threading.Lock()
        # Unknown what is there: the first part that comes has it looked at.
        self._came = limit

    def at(self, key: str) -> Array | None:
        """A part, (n,) uint8, None where it is not here."""
        with self._lock:
            found = self._mapped.get(key)
            if found is not None:
                self._mapped.move_to_end(key)
        if found is None:
            return self._map(key)
        now = time.monotonic()
        if now - found.touched_s > _TOUCH_S:
            found.touched_s = now
            self._touch(key)
        return found.values

    def has(self, key: str) -> bool:
        """Whether a part is here; it counts as used."""
        with self._lock:
            if key in self._mapped:
                self._mapped.move_to_end(key)
        return self._touch(key)

    def claim(self, keys: Iterable[str]) -> tuple[dict[str, Future[Array]], dict[str, Future[Array]]]:
        """Of parts that are not here: those that the caller has to bring, and those that another thread brings."""
        mine, others = {}, {}
        with self._lock:
            for key in keys:
                if key in self._coming:
                    others[key] = self._coming[key]
                elif key in self._mapped:
                    others[key] = Future[Array]()
                    others[key].set_result(self._mapped[key].values)
                else:
                    mine[key] = self._coming[key] = Future[Array]()
        return mine, others

    def release(self, keys: Iterable[str]) -> None:
        """What the caller had claimed has come, or failed."""
        with self._lock:
            for key in keys:
                self._coming.pop(key, None)

    def put(self, key: str, data: bytes | memoryview) -> Array:
        """Keep a part; the part. Raises `StoreFull` and `StoreReadOnly`."""
        nbytes = len(data) + _CRC_NBYTES
        with self._lock:
            crowded = self._came + nbytes > self.limit // _SHARE
            self._came = nbytes if crowded else self._came + nbytes
        file, part = self.folder / key, self.folder / f".{uuid.uuid4().hex}"
        with store_errors(file):
            self.folder.mkdir(parents=True, exist_ok=True)
            if crowded:
                self._make_room(max(nbytes, self.limit // _SHARE))
            with open(part, "wb") as out:
                out.write(data)
                out.write(zlib.crc32(data).to_bytes(_CRC_NBYTES, "little"))
            os.replace(part, file)
        # Dropped by another process meanwhile, it is still what came.
        found = self._map(key, whole=True)
        return np.frombuffer(data, np.uint8) if found is None else found

    def _map(self, key: str, *, whole: bool = False) -> Array | None:
        """Map a part; one that is not known to be `whole` is compared with its CRC, which takes a millisecond."""
        file = self.folder / key
        try:
            nbytes = file.stat().st_size - _CRC_NBYTES
            mapped = map_file(file, nbytes + _CRC_NBYTES)
        except (OSError, ValueError):
            return None
        values = mapped[: max(nbytes, 0)]
        if nbytes < 0 or (not whole and zlib.crc32(values.data) != int.from_bytes(mapped[nbytes:].tobytes(), "little")):
            file.unlink(missing_ok=True)
            return None
        self._touch(key)
        with self._lock:
            self._mapped[key] = _Mapped(values, time.monotonic())
            while len(self._mapped) > _MAPPED:
                self._mapped.popitem(last=False)
        return values

    def _touch(self, key: str) -> bool:
        try:
            os.utime(self.folder / key)
        except OSError:
            return False
        return True

    def _make_room(self, room: int) -> None:
        """Drop the parts last used longest ago until there is so much room below the bound."""
        with open(self.folder.with_name(f"{self.folder.name}.lock"), "a") as lock:
            # Where the file system has no locks, two look at once, and drop a little more than they would.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            found = []
            for entry in os.scandir(self.folder):
                with contextlib.suppress(FileNotFoundError):
                    told = entry.stat()
                    found.append((told.st_mtime_ns, told.st_size, entry.name))
            excess = sum(size for _, size, _ in found) - max(0, self.limit - room)
            abandoned_ns = time.time_ns() - int(_ABANDONED_S * 1e9)
            for used_ns, size, name in sorted(found):
                if excess <= 0:
                    break
                if name.startswith(".") and used_ns > abandoned_ns:
                    continue
                (self.folder / name).unlink(missing_ok=True)
                excess -= size
                with self._lock:
                    self._mapped.pop(name, None)


@functools.cache
def pages_at(folder: Path, limit: int, pid: int) -> Pages:
    """The one of a process: what it maps, and what is on its way, is of all its items."""
    return Pages(folder, limit)
