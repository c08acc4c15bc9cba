"""Patch tokens of one slide while they come in: on the disk, since 10,000 tiles of 196 x 1024 are 4 GB.

They come in whatever order their tiles are read, and the file that they go to may lack some of the tiles; so they lie
by the tile's row in a file without a name, which goes with its last user however that ends.

Shapes: N tiles, T = h * w tokens of the grid in row-major order, D channels; float16.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_PART_NBYTES = 8 << 20


class TokenFile:
    """Room for any number of rows, in the folder; `close` gives it back."""

    def __init__(self, folder: Path, grid: tuple[int, int], width: int) -> None:
        self.grid, self.shape = grid, (grid[0] * grid[1], width)
        self._row_nbytes = 2 * self.shape[0] * self.shape[1]
        path = folder / "patch.raw"
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        path.unlink()

    def put(self, rows: Sequence[int], patch_NTD: NDArray[np.float16]) -> None:
        """From any thread. Raises OSError where the disk is full."""
        for row, patch_TD in zip(rows, patch_NTD, strict=True):
            data, at = memoryview(patch_TD.tobytes()), row * self._row_nbytes
            while data:
                written = os.pwrite(self._handle, data, at)
                data, at = data[written:], at + written

    def get(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """(N, T, D) of rows that were put."""
        data = b"".join(os.pread(self._handle, self._row_nbytes, row * self._row_nbytes) for row in rows.tolist())
        return np.frombuffer(data, np.float16).reshape(len(rows), *self.shape)

    def close(self) -> None:
        os.close(self._handle)


@dataclass(frozen=True)
class PatchTokens:
    """Of the N tiles that are kept, by their `row_N` in the file; read part by part."""

    file: TokenFile
    row_N: NDArray[np.int64]

    @property
    def grid(self) -> tuple[int, int]:
        return self.file.grid

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, T, D)."""
        return len(self.row_N), *self.file.shape

    @property
    def part(self) -> int:
        """Tiles of a part: some megabytes."""
        return max(1, min(len(self.row_N), _PART_NBYTES // (2 * self.file.shape[0] * self.file.shape[1])))

    def parts(self) -> Iterator[NDArray[np.float16]]:
        """`part` tiles each, the last as many as are left, (part, T, D)."""
        for start in range(0, len(self.row_N), self.part):
            yield self.file.get(self.row_N[start : start + self.part])
