"""The rows of a chunked HDF5 data set, copied from where its chunks lie in the file.

TRIDENT writes a chunk a row, (1, D), of which HDF5 itself looks up, locks and copies each alone. Chunks that are not
filtered are plain bytes, and most lie one after another: runs of them are copied at memory's speed. Where that cannot
be known, HDF5 reads; the bytes are the same either way (a property test holds it).
"""

from __future__ import annotations

import mmap

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.base.types import Array
from pipeline.imports.formats.chunk_index import chunk_places


def rows_of(dataset: h5py.Dataset, mapped: mmap.mmap | None = None) -> Array:
    """All of a data set, (N, D) in its own dtype; `mapped` is the file that it lies in, whole."""
    found = None if mapped is None else _from_chunks(dataset, mapped)
    return np.asarray(dataset[...]) if found is None else found


def _from_chunks(dataset: h5py.Dataset, mapped: mmap.mmap) -> Array | None:
    """None where HDF5 has to read: filters, a byte order that is not this machine's, chunks of part of a row."""
    shape, chunk = dataset.shape, dataset.chunks
    plain = dataset.id.get_create_plist().get_nfilters() == 0 and dataset.dtype.isnative and not dataset.is_virtual
    if not plain or dataset.external:
        return None
    size = dataset.dtype.itemsize
    if chunk is None:
        start = dataset.id.get_offset()
        if start is None:
            return None
        # A copy: the map is closed before the rows are used.
        return np.frombuffer(mapped, dataset.dtype, shape[0] * shape[1], start).reshape(shape).copy()
    rows, width = chunk
    if width != shape[1]:
        return None
    place_C, n_chunks = _places(dataset, mapped), -(-shape[0] // rows)
    nbytes = rows * width * size
    # A chunk that was never written has no place: its rows are the fill value.
    if place_C is None or len(place_C) != n_chunks or int(place_C.max()) + nbytes > len(mapped):
        return None
    whole = np.empty((n_chunks * rows, width), dataset.dtype)
    into = whole.reshape(-1).view(np.uint8)
    data = np.frombuffer(mapped, np.uint8)
    ends = np.flatnonzero(np.diff(place_C) != nbytes) + 1
    for first, stop in zip([0, *ends.tolist()], [*ends.tolist(), n_chunks], strict=True):
        start = int(place_C[first])
        into[first * nbytes : stop * nbytes] = data[start : start + (stop - first) * nbytes]
    return whole[: shape[0]]


def _places(dataset: h5py.Dataset, mapped: mmap.mmap) -> NDArray[np.int64] | None:
    """Where each chunk starts in the file, in the order of its rows; None where one was left out of the filters."""
    indexed = chunk_places(dataset, mapped)
    if indexed is not None:
        return indexed
    found: list[h5py.h5d.StoreInfo] = []
    # A function of our own would take most of the time of a file of a chunk a row.
    dataset.id.chunk_iter(found.append)
    if any(chunk.filter_mask for chunk in found):
        return None
    at_C = np.array([chunk.byte_offset for chunk in found], np.int64)
    return at_C[np.argsort([chunk.chunk_offset[0] for chunk in found])]
