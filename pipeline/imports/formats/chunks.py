"""The rows of an HDF5 data set, taken from where its chunks lie while the file is read once, from end to end.

TRIDENT writes a chunk a row, (1, D), of which HDF5 itself looks up, locks and copies each alone. Chunks that are not
filtered are plain bytes, and most lie one after another: runs of them are taken as they come by, and whoever adds up a
checksum of the file sees the same bytes while they are in a core's cache. Where that cannot be known, HDF5 reads; the
rows are the same either way (a property test holds it).

Shapes: C chunks, M rows of a run, D channels.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.base.types import Array
from pipeline.imports.formats.chunk_index import chunk_places
from pipeline.imports.formats.feature_file import BLOCK_NBYTES, Piece, Seen, read_through

_READ_NBYTES = 8 << 20
"""What HDF5 is asked for at a time."""


def rows_of(dataset: h5py.Dataset, file: BinaryIO) -> Array:
    """All of a data set, (N, D) in its own dtype, which lies in the file."""
    whole = np.empty(dataset.shape, dataset.dtype)
    for at, values in pieces_of(dataset, file, None):
        whole[at : at + len(values)] = values
    return whole


def pieces_of(dataset: h5py.Dataset, file: BinaryIO, seen: Seen | None) -> Iterator[Piece]:
    """The same in pieces, in the order in which they lie in the file; `seen` is given all bytes of it, in theirs."""
    place_C = _places(dataset, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if place_C is not None and (seen or dataset.chunks):
        yield from _as_they_come(dataset, place_C, file, seen)
        return
    if seen:
        read_through(file, seen)
    step = max(1, _READ_NBYTES // max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))))
    if dataset.chunks:
        step = -(-step // dataset.chunks[0]) * dataset.chunks[0]
    for start in range(0, len(dataset), step):
        yield start, dataset[start : start + step]


def _as_they_come(
    dataset: h5py.Dataset, place_C: NDArray[np.int64], file: BinaryIO, seen: Seen | None
) -> Iterator[Piece]:
    """By the places of the chunks, which need not lie in the order of their rows."""
    (rows, width), n, dtype = _chunk(dataset), len(dataset), dataset.dtype
    nbytes = rows * width * dtype.itemsize
    block = max(BLOCK_NBYTES, nbytes)
    window = np.empty(block + nbytes, np.uint8)
    runs = iter(_runs(place_C, nbytes))
    start, first, left = next(runs)
    file.seek(0 if seen else start)
    at, kept = file.tell(), 0
    while left or seen:
        read = file.readinto(window[kept : kept + block].data)  # type: ignore[attr-defined]
        if not read:
            break
        if seen:
            seen(window[kept : kept + read].data)
        end = at + kept + read
        while left and (whole := min(left, (end - start) // nbytes)) > 0:
            row, begin = first * rows, start - at
            yield row, window[begin : begin + whole * nbytes].view(dtype).reshape(-1, width)[: n - row]
            start, first, left = start + whole * nbytes, first + whole, left - whole
            if not left:
                start, first, left = next(runs, (0, 0, 0))
        # Of a chunk that goes on in the next block its beginning is kept.
        kept = max(0, end - start) if left else 0
        window[:kept] = window[end - kept - at : end - at].copy()
        at = end - kept


def _runs(place_C: NDArray[np.int64], nbytes: int) -> list[tuple[int, int, int]]:
    """Of chunks that lie one after another and are of rows that do: where they start, the first chunk, how many."""
    order_C = np.argsort(place_C, kind="stable")
    start_C = place_C[order_C]
    cuts = np.flatnonzero((np.diff(start_C) != nbytes) | (np.diff(order_C) != 1)) + 1
    first_R = np.concatenate(([0], cuts))
    count_R = np.diff(np.append(first_R, len(order_C)))
    return list(zip(start_C[first_R].tolist(), order_C[first_R].tolist(), count_R.tolist(), strict=True))


def _chunk(dataset: h5py.Dataset) -> tuple[int, int]:
    """Rows and columns of a chunk; of a data set in one piece, those of a row."""
    rows, width = dataset.chunks or (1, dataset.shape[1])
    return rows, width


def _places(dataset: h5py.Dataset, data: mmap.mmap) -> NDArray[np.int64] | None:
    """Where each chunk starts in the file, in the order of its rows, (C,).

    None where HDF5 has to read: filters, a byte order that is not this machine's, chunks of part of a row, or that were
    never written.
    """
    plain = dataset.id.get_create_plist().get_nfilters() == 0 and dataset.dtype.isnative and not dataset.is_virtual
    if not plain or dataset.external or not dataset.size:
        return None
    rows, width = _chunk(dataset)
    nbytes = rows * width * dataset.dtype.itemsize
    place_C: NDArray[np.int64] | None = None
    if dataset.chunks is None and (start := dataset.id.get_offset()) is not None:
        place_C = start + nbytes * np.arange(len(dataset), dtype=np.int64)
    elif dataset.chunks is not None and width == dataset.shape[1]:
        place_C = _indexed(dataset, data)
    # A chunk that was never written has no place: its rows are the fill value.
    if place_C is None or len(place_C) != -(-len(dataset) // rows) or int(place_C.max()) + nbytes > len(data):
        return None
    return place_C


def _indexed(dataset: h5py.Dataset, data: mmap.mmap) -> NDArray[np.int64] | None:
    """By the index of chunks; None where one was left out of the filters."""
    indexed = chunk_places(dataset, data)
    if indexed is not None:
        return indexed
    found: list[h5py.h5d.StoreInfo] = []
    # A function of our own would take most of the time of a file of a chunk a row.
    dataset.id.chunk_iter(found.append)
    if any(chunk.filter_mask for chunk in found):
        return None
    at_C = np.array([chunk.byte_offset for chunk in found], np.int64)
    return at_C[np.argsort([chunk.chunk_offset[0] for chunk in found])]
