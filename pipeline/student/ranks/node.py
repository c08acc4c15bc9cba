"""What the processes of one node need alike is made by one of them, and lies in memory once.

The node's first process makes it and pickles it, its arrays out of band, into memory that has no name in any folder;
all of them open that through /proc, and map it: their arrays are views of the same pages. Nothing is left behind,
however the processes end. Nodes are told apart as torchrun numbers them, else by their names.
"""

from __future__ import annotations

import itertools
import os
import pickle
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch.distributed as ranks

from pipeline.base.errors import HistillError
from pipeline.base.maps import map_file

T = TypeVar("T")
_ALIGNED = 64
"""Bytes to whose multiples an array's memory is moved."""


class _Told(NamedTuple):
    """Where a node's process has put what it made: part i of the memory is from ends[i] on, `sizes[i]` bytes."""

    node: str
    process: int
    handle: int
    sizes: tuple[int, ...]
    error: HistillError | None = None


def once(make: Callable[[], T]) -> T:
    """What `make` gives, called by one process a node; every process of the training has to call this.

    Where there are several processes, arrays in it are read-only. Raises everywhere the `HistillError` that `make`
    raises anywhere.
    """
    if not ranks.is_initialized() or ranks.get_world_size() == 1:
        return make()
    own = _put(make) if int(os.environ.get("LOCAL_RANK", "0")) == 0 else None
    everyone: list[_Told | None] = [None] * ranks.get_world_size()
    ranks.all_gather_object(everyone, own)
    told = [one for one in everyone if one is not None]
    try:
        for one in told:
            if one.error is not None:
                raise one.error
        value: T = _taken(next(one for one in told if one.node == _node()))
        return value
    finally:
        ranks.barrier()
        if own is not None and own.error is None:
            os.close(own.handle)


def _node() -> str:
    return os.environ.get("GROUP_RANK") or platform.node()


def _put(make: Callable[[], object]) -> _Told:
    try:
        value = make()
    except HistillError as error:
        return _Told(_node(), os.getpid(), -1, (), error)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(data), *(buffer.raw() for buffer in buffers)]
    sizes = tuple(len(part) for part in parts)
    handle = os.memfd_create("histill")
    with open(handle, "wb", closefd=False) as out:
        for part, start in zip(parts, _starts(sizes), strict=True):
            out.seek(start)
            out.write(part)
    return _Told(_node(), os.getpid(), handle, sizes)


def _taken(told: _Told) -> Any:
    starts = _starts(told.sizes)
    mapped = map_file(Path(f"/proc/{told.process}/fd/{told.handle}"), starts[-1] + told.sizes[-1])
    data, *buffers = (mapped[start : start + size].data for start, size in zip(starts, told.sizes, strict=True))
    return pickle.loads(data, buffers=buffers)


def _starts(sizes: tuple[int, ...]) -> tuple[int, ...]:
    padded = [-(-size // _ALIGNED) * _ALIGNED for size in sizes]
    return tuple(itertools.accumulate(padded[:-1], initial=0))
