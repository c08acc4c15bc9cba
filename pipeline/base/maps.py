"""Files mapped into memory to be read, and how many of them at a time.

A map needs no descriptor once it is made, but Python's own `mmap` keeps a duplicate for as long as the map lives: a
thousand mapped chunks would be a thousand open files, which is all that a process may have by default. So the system
is asked itself. What maps are bounded by instead is `vm.max_map_count`: beyond a share of it the map made first is
given up, and made again when it is wanted.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import weakref
from collections import deque
from functools import cache
from pathlib import Path

import numpy as np

from pipeline.base.limits import maps_allowed
from pipeline.base.types import Array

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


class MapsOf(dict[int, Array]):
    """The maps that one owner holds, by a number of its own; any of them may be given up at any time."""

    __slots__ = ("__weakref__",)

    def keep(self, number: int, values: Array) -> None:
        """Hold a map; gives up the maps made first, of whichever owner, where there are too many."""
        self[number] = values
        _made.append((weakref.ref(self), number))
        _give_up(_most())


_made: deque[tuple[weakref.ref[MapsOf], int]] = deque()
_most = cache(maps_allowed)


def map_file(file: Path, nbytes: int) -> Array:
    """The first `nbytes` (> 0) of a file, (nbytes,) uint8, read-only; unmapped with the last array that views them.

    Raises `ValueError` where the file is shorter, and `OSError`.
    """
    handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(handle).st_size
        if found < nbytes:
            raise ValueError(f"{found} bytes, not {nbytes}")
        address = _mapped(handle, nbytes)
        if address == _FAILED and ctypes.get_errno() == errno.ENOMEM:
            # Of maps there are too many after all: others than ours count too.
            _give_up(0)
            address = _mapped(handle, nbytes)
        if address is None or address == _FAILED:
            code = ctypes.get_errno()
            raise OSError(code, f"cannot be mapped: {os.strerror(code)}", str(file))
    finally:
        os.close(handle)
    return np.asarray(_Map(address, nbytes))


class _Map:
    """Memory that a file is mapped to, as numpy takes it; every array over it keeps it alive."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.__array_interface__ = {"data": (address, True), "shape": (nbytes,), "typestr": "|u1", "version": 3}
        self._where = address, nbytes

    def __del__(self) -> None:
        # Maps that live to the interpreter's end find its modules emptied, and go with the process.
        if _LIBC is not None:
            _LIBC.munmap(*self._where)


def _mapped(handle: int, nbytes: int) -> int | None:
    address: int | None = _LIBC.mmap(None, nbytes, mmap.PROT_READ, mmap.MAP_SHARED, handle, 0)
    return address


def _give_up(left: int) -> None:
    """Let go of the maps made first until so many are left; those that an array still views go with it."""
    while len(_made) > left:
        try:
            owner, number = _made.popleft()
        except IndexError:
            # Another thread was at it.
            return
        if (maps := owner()) is not None:
            maps.pop(number, None)
