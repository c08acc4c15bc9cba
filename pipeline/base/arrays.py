"""Zarr v3 arrays written chunk by chunk and read by mapping their chunk files. The only file that imports zarr.

An uncompressed Zarr chunk is a flat C-order file, so the store stays ordinary Zarr that anyone can open, and on a local
file system a chunk is read by mapping it. The law of that fast path: it skips work whose result is known and is never
another algorithm; a test holds it equal to what `zarr.open` reads. The chunk grid runs along the first axis only.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from pipeline.base.errors import CorruptItem
from pipeline.base.maps import MapsOf, map_file
from pipeline.base.types import Array, Json, Rows


def balanced_rows(n: int, target: int) -> int:
    """Rows a chunk so that chunks are equal: 1,500 rows, at most 1,024 a chunk, are 2 x 750 and need no padding."""
    return max(1, math.ceil(n / max(1, math.ceil(n / target))))


class ArrayWriter:
    """Creates one uncompressed array (its metadata through zarr) and writes it chunk by chunk, each atomically.

    `shape` (n, …), chunks of `chunk_rows` rows. A chunk already on disk (a resumed item) need not be written again.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        chunk_rows: int,
        dtype: DTypeLike,
        attributes: Mapping[str, Json] | None = None,
    ) -> None:
        import zarr

        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.chunk_rows = max(1, min(chunk_rows, shape[0]))
        if not (path / "zarr.json").exists():
            path.mkdir(parents=True, exist_ok=True)
            zarr.create_array(
                store=str(path),
                shape=shape,
                chunks=(self.chunk_rows, *shape[1:]),
                dtype=self.dtype,
                compressors=None,
                filters=None,
                fill_value=0,
                attributes=dict(attributes or {}),
            )

    @property
    def n_chunks(self) -> int:
        return math.ceil(self.shape[0] / self.chunk_rows)

    def rows(self, chunk: int) -> range:
        """The rows that chunk holds, padding left out."""
        return range(chunk * self.chunk_rows, min(self.shape[0], (chunk + 1) * self.chunk_rows))

    def has(self, chunk: int, since: float = 0.0) -> bool:
        """Whether the chunk is on disk, written at `since` (seconds of the epoch) or later."""
        file = _chunk_file(self.path, chunk, len(self.shape))
        return file.exists() and file.stat().st_mtime >= since

    def write(self, chunk: int, values: Array) -> None:
        """Write one chunk: exactly its rows, in order; the last is padded with zeros as Zarr does."""
        rows = self.rows(chunk)
        if values.shape != (len(rows), *self.shape[1:]) or values.dtype != self.dtype:
            expected = (len(rows), *self.shape[1:])
            raise ValueError(f"chunk {chunk} of {self.path}: {values.dtype}{values.shape}, not {self.dtype}{expected}")
        nbytes = self.chunk_rows * math.prod(self.shape[1:]) * self.dtype.itemsize
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        _write_chunk(_chunk_file(self.path, chunk, len(self.shape)), data, nbytes)


class BytesWriter:
    """Appends byte strings end to end to a one-dimensional uint8 array whose length is known only at the end.

    Chunks go to disk as they fill, so memory holds one; `close` writes the last of them and the metadata. A whole that
    is smaller than a chunk is one chunk of just its size.
    """

    def __init__(self, path: Path, chunk_nbytes: int = 8 << 20) -> None:
        self.path, self.chunk_nbytes = path, chunk_nbytes
        self._written, self._pending, self._nbytes = 0, list[bytes](), 0

    def __len__(self) -> int:
        return self._written + self._nbytes

    def append(self, data: bytes) -> None:
        self._pending.append(data)
        self._nbytes += len(data)
        # More than a chunk is kept back until there is more, so that the last one is left to `close`.
        while self._nbytes > self.chunk_nbytes:
            pending = memoryview(b"".join(self._pending))
            file = _chunk_file(self.path, self._written // self.chunk_nbytes, 1)
            _write_chunk(file, pending[: self.chunk_nbytes], self.chunk_nbytes)
            self._pending = [bytes(pending[self.chunk_nbytes :])]
            self._written += self.chunk_nbytes
            self._nbytes -= self.chunk_nbytes

    def close(self) -> None:
        """Raises `ValueError` where nothing was appended: Zarr has no chunk of no bytes."""
        if not len(self):
            raise ValueError(f"{self.path}: no bytes to write")
        array = ArrayWriter(self.path, (len(self),), self.chunk_nbytes, np.uint8)
        array.write(array.n_chunks - 1, np.frombuffer(b"".join(self._pending), np.uint8))


class MappedArray:
    """Reads an array through maps of its chunk files. Pickles only its path; each process maps lazily for itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            meta = json.loads((path / "zarr.json").read_bytes())
        except FileNotFoundError:
            raise CorruptItem("array metadata is missing", where=str(path), fix="histill store verify") from None
        except ValueError as error:
            what = f"array metadata is broken: {error}"
            raise CorruptItem(what, where=str(path), fix="histill store verify") from None
        self.shape = tuple(int(side) for side in meta["shape"])
        self.dtype = np.dtype(meta["data_type"])
        self.chunk_rows = int(meta["chunk_grid"]["configuration"]["chunk_shape"][0])
        self.attributes: dict[str, Json] = meta.get("attributes", {})
        if [codec["name"] for codec in meta["codecs"]] != ["bytes"]:
            raise CorruptItem("compressed arrays cannot be mapped", where=str(path), fix="read it with zarr.open")
        self._maps = MapsOf()

    def __reduce__(self) -> tuple[type[MappedArray], tuple[Path]]:
        return MappedArray, (self.path,)

    def __len__(self) -> int:
        return self.shape[0]

    def slice(self, start: int, stop: int) -> Array:
        """Rows start:stop, shape (stop - start, …); a view of the map where they lie in one chunk, else a copy."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"rows {start}:{stop} of {len(self)} in {self.path}")
        first, last = start // self.chunk_rows, max(start, stop - 1) // self.chunk_rows
        if start == stop:
            return np.empty((0, *self.shape[1:]), self.dtype)
        parts = []
        for chunk in range(first, last + 1):
            offset = chunk * self.chunk_rows
            parts.append(self._chunk(chunk)[max(start - offset, 0) : stop - offset])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def take(self, rows: Rows, at: int | None = None) -> Array:
        """The given rows, in the given order, copied once; shape (len(rows), …).

        With `at`, only that index of the second axis is read and the axis is gone: one view of many.
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"row {rows.min()} or {rows.max()} is outside {len(self)} in {self.path}")
        out = np.empty((len(rows), *(self.shape[1:] if at is None else self.shape[2:])), self.dtype)
        chunks = rows // self.chunk_rows
        # Neighbouring rows of a chunk are one copy; numpy's own fancy index would copy each row twice, by way of a
        # temporary array, since the rows of a chunk may lie anywhere in `out`.
        cuts = np.flatnonzero((np.diff(rows) != 1) | (np.diff(chunks) != 0)) + 1
        for begin, end in itertools.pairwise((0, *cuts.tolist(), len(rows)) if len(rows) else ()):
            chunk = int(chunks[begin])
            first = int(rows[begin]) - chunk * self.chunk_rows
            values = self._chunk(chunk)[first : first + end - begin]
            out[begin:end] = values if at is None else values[:, at]
        return out

    def _chunk(self, chunk: int) -> Array:
        values = self._maps.get(chunk)
        if values is None:
            file = _chunk_file(self.path, chunk, len(self.shape))
            shape = (self.chunk_rows, *self.shape[1:])
            try:
                mapped = map_file(file, math.prod(shape) * self.dtype.itemsize)
            except (FileNotFoundError, ValueError) as error:
                raise CorruptItem(f"chunk {chunk}: {error}", where=str(self.path), fix="histill store verify") from None
            values = mapped.view(self.dtype).reshape(shape)
            self._maps.keep(chunk, values)
        return values


def rows_of_file(item: Path, name: str) -> range | None:
    """The rows that a file of an item holds, by its name in it (`patch/c/3/0/0/0`); None where it is no chunk.

    Of `jpeg`, whose rows are bytes, the tiles that `offsets` beside it puts there. Raises `CorruptItem` or `ValueError`
    where the metadata that would tell is broken itself.
    """
    array, _, key = name.partition("/c/")
    if not key:
        return None
    mapped, chunk = MappedArray(item / array), int(key.split("/")[0])
    start, stop = chunk * mapped.chunk_rows, min(len(mapped), (chunk + 1) * mapped.chunk_rows)
    if array == "jpeg" and (item / "offsets").is_dir():
        offsets = MappedArray(item / "offsets")
        ends = offsets.slice(1, len(offsets))
        first, last = np.searchsorted(ends, (start, stop - 1), side="right")
        return range(int(first), int(last) + 1)
    return range(start, stop)


def _write_chunk(file: Path, data: bytes | memoryview, nbytes: int) -> None:
    """Write a chunk's file atomically, padded with zeros to `nbytes`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    with open(part, "wb") as out:
        out.write(data)
        out.truncate(nbytes)
    os.replace(part, file)


def _chunk_file(path: Path, chunk: int, ndim: int) -> Path:
    """Zarr v3's default chunk key: c/<i>/0/0 …, the grid running along the first axis only."""
    return path.joinpath("c", str(chunk), *["0"] * (ndim - 1))
