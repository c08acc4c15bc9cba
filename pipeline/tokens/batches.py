"""Tiles decoded ahead of the teacher: while one batch is in its forward pass, threads decode the next ones."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import balanced_rows
from pipeline.errors import CorruptItem
from pipeline.tiles.reader import TileReader

DECODE_THREADS = 2
_AHEAD = 2

Tile = tuple[TileReader, int]
"""A tile: the reader of its slide, and its row."""


def split(rows: range, batch_size: int) -> list[range]:
    """The rows of a chunk as batches of equal size, at most `batch_size`.

    They depend on the chunk alone, never on where a run was interrupted, so that a resumed item has the same bytes: a
    matrix product's last bits may change with the batch's shape.
    """
    step = balanced_rows(len(rows), batch_size)
    return [rows[i : i + step] for i in range(0, len(rows), step)]


def decoded(
    batches: Iterable[Sequence[Tile]], side_px: int, pool: ThreadPoolExecutor, *, skip_bad: bool = False
) -> Iterator[NDArray[np.uint8]]:
    """Each batch's tiles as (n, side_px, side_px, 3) uint8, in order.

    Raises `CorruptItem` for a tile that does not decode, or with `skip_bad` leaves it out (and a batch of none).
    """
    source = iter(batches)
    waiting: deque[list[Future[NDArray[np.uint8]]]] = deque()
    while True:
        for batch in itertools.islice(source, 1 + _AHEAD - len(waiting)):
            waiting.append([pool.submit(reader.image, row, side_px) for reader, row in batch])
        if not waiting:
            return
        images = [image for future in waiting.popleft() if (image := _result(future, skip_bad)) is not None]
        if images:
            yield np.stack(images)


def _result(future: Future[NDArray[np.uint8]], skip_bad: bool) -> NDArray[np.uint8] | None:
    try:
        return future.result()
    except CorruptItem:
        if skip_bad:
            return None
        raise
