"""Patch tokens of one slide while they come in: on the disk, since 10,000 tiles of 196 x 1024 are 4 GB.

They come in whatever order their tiles are read, and the file that they go to may lack some of the tiles; so they lie
by the tile's row in a file without a name, which goes with its last user however that ends. A row holds the tile's
arrays as the form names them, one after the other.

Shapes: N tiles, T = h * w tokens of the grid in row-major order, D channels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.types import Array
from pipeline.embed.patch_form import PatchForm

_PART_NBYTES = 8 << 20


class TokenFile:
    """Room for any number of rows, in the folder; `close` gives it back."""

    def __init__(self, folder: Path, form: PatchForm) -> None:
        self.form = form
        self._place: dict[str, tuple[int, int]] = {}
        self._row_nbytes = 0
        for name, (shape, dtype) in form.arrays.items():
            nbytes = int(np.prod(shape)) * dtype.itemsize
            self._place[name] = self._row_nbytes, nbytes
            self._row_nbytes += nbytes
        path = folder / "patch.raw"
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        path.unlink()

    def put(self, rows: Sequence[int], arrays: Sequence[Array]) -> None:
        """From any thread; `arrays` are `PatchForm.encode`'s. Raises OSError where the disk is full."""
        for i, row in enumerate(rows):
            data, at = memoryview(b"".join(array[i].tobytes() for array in arrays)), row * self._row_nbytes
            while data:
                written = os.pwrite(self._handle, data, at)
                data, at = data[written:], at + written

    def get(self, name: str, rows: NDArray[np.int64]) -> Array:
        """(N, …) of that array, of rows that were put."""
        (shape, dtype), (start, nbytes) = self.form.arrays[name], self._place[name]
        data = b"".join(os.pread(self._handle, nbytes, row * self._row_nbytes + start) for row in rows.tolist())
        return np.frombuffer(data, dtype).reshape(len(rows), *shape)

    def close(self) -> None:
        os.close(self._handle)


@dataclass(frozen=True)
class PatchTokens:
    """Of the N tiles that are kept, by their `row_N` in the file; read part by part."""

    file: TokenFile
    row_N: NDArray[np.int64]

    @property
    def form(self) -> PatchForm:
        return self.file.form

    def part(self, name: str) -> int:
        """Tiles of a part of that array: some megabytes."""
        shape, dtype = self.form.arrays[name]
        return max(1, min(len(self.row_N), _PART_NBYTES // (int(np.prod(shape)) * dtype.itemsize)))

    def parts(self, name: str) -> Iterator[Array]:
        """`part` tiles each of that array, the last as many as are left, (part, …)."""
        part = self.part(name)
        for start in range(0, len(self.row_N), part):
            yield self.file.get(name, self.row_N[start : start + part])
