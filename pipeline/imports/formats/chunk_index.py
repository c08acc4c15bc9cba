"""Where the chunks of an HDF5 data set lie, read from the file's own index: a leaf at a time, not a call a chunk.

TRIDENT writes a chunk a row, so a slide has thousands, and the library hands each out as an object of its own. Read is
what h5py writes unless it is told otherwise: an object header of version 1 with a data layout of version 3, whose
chunks a B-tree of version 1 lists. Of any other form nothing is said, and the library is asked.

Source: HDF5 File Format Specification, version 3.0: III.A.1 (B-trees), IV.A.1.a (object headers), IV.A.2.i (layout).

Shapes: C chunks, R dimensions of the data set and one more.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator

import h5py
import numpy as np
from numpy.typing import NDArray

_LAYOUT, _CONTINUED, _CHUNKED = 0x0008, 0x0010, 2
_NOWHERE = (1 << 64) - 1
_NODE = struct.Struct("<4sBBHQQ")
"""Signature, kind, level, entries, left and right sibling."""


def chunk_places(dataset: h5py.Dataset, data: mmap.mmap) -> NDArray[np.int64] | None:
    """Where each chunk starts in the file, in the order of its rows, (C,); None where the index is of another form.

    So too where chunks are filtered, hold parts of rows, or are not all written.
    """
    entry = _entry(dataset.ndim + 1)
    try:
        root = _index(dataset, data)
        if root is None:
            return None
        most = math.prod(-(-side // chunk) for side, chunk in zip(dataset.shape, dataset.chunks, strict=True))
        entries = np.frombuffer(b"".join(_leaves(data, root, entry.itemsize, most)), entry)
    except (struct.error, ValueError, IndexError):
        # It points beyond the file, or in a circle: whatever is wrong with it is the library's to say.
        return None
    chunk_nbytes = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    if (entries["mask"] != 0).any() or (entries["nbytes"] != chunk_nbytes).any() or entries["at"][:, 1:].any():
        return None
    entries = entries[np.argsort(entries["at"][:, 0])]
    in_order = np.array_equal(entries["at"][:, 0], np.arange(most, dtype=np.uint64) * np.uint64(dataset.chunks[0]))
    return entries["child"].astype(np.int64) if in_order and entries["child"].max() < len(data) else None


def _index(dataset: h5py.Dataset, data: mmap.mmap) -> int | None:
    """Where the root of the data set's B-tree is."""
    if dataset.file.userblock_size:
        return None
    # An address, in as many longs as that takes. `h5o.get_info` would go through the whole index to add it up.
    start = h5py.h5g.get_objinfo(dataset.id).objno[0]
    version, _, n_messages, _, size = struct.unpack_from("<BBHII", data, start)
    if version != 1:
        return None
    blocks, seen = [(start + 16, size)], 0
    for at, length in blocks:
        end = at + length
        while at + 8 <= end and seen < n_messages:
            kind, own = struct.unpack_from("<HH", data, at)
            if kind == _CONTINUED:
                blocks.append(struct.unpack_from("<QQ", data, at + 8))
            if kind == _LAYOUT:
                layout, how, dimensions, root = struct.unpack_from("<BBBQ", data, at + 8)
                fits = (layout, how, dimensions) == (3, _CHUNKED, dataset.ndim + 1)
                return root if fits and root != _NOWHERE else None
            at, seen = at + 8 + own, seen + 1
    return None


def _entry(dimensions: int) -> np.dtype[np.void]:
    return np.dtype([("nbytes", "<u4"), ("mask", "<u4"), ("at", "<u8", (dimensions,)), ("child", "<u8")])


def _leaves(data: mmap.mmap, node: int, nbytes: int, most: int) -> Iterator[bytes]:
    """The entries of each leaf, `nbytes` each, the first leaf's first. Raises `ValueError` for more than `most`."""
    height: int | None = None
    while node != _NOWHERE:
        signature, kind, level, n, _, sibling = _NODE.unpack_from(data, node)
        # Levels fall by one, and leaves are no more than their chunks: whatever else is no tree, and would have no end.
        if signature != b"TREE" or kind != 1 or level != (level if height is None else height) or not 0 < n <= most:
            raise ValueError("no index of chunks")
        start = node + _NODE.size
        if level:
            (node,), height = struct.unpack_from("<Q", data, start + nbytes - 8), level - 1
        else:
            yield data[start : start + n * nbytes]
            node, height, most = sibling, 0, most - n
