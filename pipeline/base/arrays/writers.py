"""Writes arrays of one chunk a file, each file atomically."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from pipeline.base.arrays.form import METADATA_FILE, ArrayForm, metadata_text
from pipeline.base.types import Array, Json


class ArrayWriter:
    """Creates one uncompressed array and writes it chunk by chunk.

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
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.chunk_rows = max(1, min(chunk_rows, shape[0]))
        self._form = ArrayForm(shape, self.chunk_rows, self.dtype, attributes or {})
        if not (path / METADATA_FILE).exists():
            write_metadata(path, self._form.metadata())

    @property
    def n_chunks(self) -> int:
        return self._form.n_chunks

    def rows(self, chunk: int) -> range:
        """The rows that chunk holds, padding left out."""
        return self._form.rows(chunk)

    def has(self, chunk: int) -> bool:
        """Whether the chunk is on disk."""
        return (self.path / self._form.file(chunk)).exists()

    def write(self, chunk: int, values: Array) -> None:
        """Write one chunk: exactly its rows, in order; the last is padded with zeros as Zarr does."""
        write_file(self.path / self._form.file(chunk), flat(self._form, chunk, values, self.path))


CHUNK_NBYTES = 8 << 20
"""Of an array of bytes."""


def nbytes_kept(nbytes: int, chunk_nbytes: int = CHUNK_NBYTES) -> int:
    """What `BytesWriter` keeps of so many on disk: the last of several chunks is as long as the others."""
    return nbytes if nbytes <= chunk_nbytes else -(-nbytes // chunk_nbytes) * chunk_nbytes


class BytesWriter:
    """Appends byte strings end to end to a one-dimensional uint8 array whose length is known only at the end.

    Chunks go to disk as they fill, so memory holds one; `close` writes the last of them and the metadata. A whole that
    is smaller than a chunk is one chunk of just its size.
    """

    def __init__(self, path: Path, chunk_nbytes: int = CHUNK_NBYTES) -> None:
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
            form = ArrayForm((len(self),), self.chunk_nbytes, np.dtype(np.uint8))
            file = self.path / form.file(self._written // self.chunk_nbytes)
            write_file(file, (pending[: self.chunk_nbytes], self.chunk_nbytes))
            self._pending = [bytes(pending[self.chunk_nbytes :])]
            self._written += self.chunk_nbytes
            self._nbytes -= self.chunk_nbytes

    def close(self) -> None:
        """Raises `ValueError` where nothing was appended: Zarr has no chunk of no bytes."""
        if not len(self):
            raise ValueError(f"{self.path}: no bytes to write")
        array = ArrayWriter(self.path, (len(self),), self.chunk_nbytes, np.uint8)
        array.write(array.n_chunks - 1, np.frombuffer(b"".join(self._pending), np.uint8))


Flat = tuple[bytes | memoryview, int]
"""Bytes, and how many there are with the zeros after them."""


def flat(form: ArrayForm, chunk: int, values: Array, path: Path) -> Flat:
    """A chunk's rows as they lie on disk. Raises `ValueError` where they are not just its rows."""
    rows = form.rows(chunk)
    if values.shape != (len(rows), *form.shape[1:]) or values.dtype != form.dtype:
        expected = (len(rows), *form.shape[1:])
        raise ValueError(f"chunk {chunk} of {path}: {values.dtype}{values.shape}, not {form.dtype}{expected}")
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data, form.chunk_rows * form.row_nbytes


def write_metadata(folder: Path, metadata: Mapping[str, Json], indent: int | None = 2) -> None:
    """Its zarr.json; synced with the item that it is part of."""
    text = metadata_text(metadata, indent)
    write_file(folder / METADATA_FILE, (text, len(text)))


def write_file(file: Path, data: Flat) -> None:
    """Write a chunk's file atomically, padded with zeros."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    with open(part, "wb") as out:
        out.write(data[0])
        out.truncate(data[1])
    os.replace(part, file)
