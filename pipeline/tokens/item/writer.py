"""Writes one slide's answers, chunk after chunk, so that a killed run loses one chunk at most.

Shapes as in reader.py. The arrays are cut at the same rows; a chunk's `cls` is written last and marks it complete.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kernels.hadamard.reference import block_of
from pipeline.base.arrays import ArrayWriter, balanced_rows
from pipeline.base.types import Array
from pipeline.teachers.statistics import Calibration
from pipeline.tokens.item.attributes import ClsAttributes, PatchAttributes

CHUNK_NBYTES = 64_000_000
"""Of a `patch` chunk: large enough to be written at the disk's speed, small enough to lose."""
CHUNK_ROWS_MAX = 1024
_PATCH_DTYPE: dict[str, np.dtype[np.int8] | np.dtype[np.float16]] = {
    "int8": np.dtype(np.int8),
    "fp16": np.dtype(np.float16),
}


def tile_nbytes(layout: str, views: int, tokens: int, width: int) -> int:
    """Bytes that one tile takes in all arrays together."""
    return views * (width * 2 + _patch_nbytes(layout, tokens, width) + (tokens * 2 if layout == "int8" else 0))


def rotation_block(layout: str, width: int) -> int:
    """Channels that are rotated together before they are quantised; 1 where nothing is rotated."""
    return block_of(width) if layout == "int8" else 1


def chunk_rows(n: int, layout: str, views: int, tokens: int, width: int) -> int:
    """Rows a chunk for a slide of n tiles; part of what its bytes depend on, never the batch size."""
    fitting = CHUNK_NBYTES // max(1, views * _patch_nbytes(layout, tokens, width))
    return balanced_rows(n, int(np.clip(fitting, 1, CHUNK_ROWS_MAX)))


class TokenWriter:
    """The arrays of one item folder for n tiles; `calibration` is None for layout `none`."""

    def __init__(
        self,
        folder: Path,
        n: int,
        views: int,
        grid: tuple[int, int],
        width: int,
        calibration: Calibration | None,
        layout: str,
    ) -> None:
        tokens = grid[0] * grid[1]
        rows = chunk_rows(n, layout, views, tokens, width)
        said = ClsAttributes(grid=grid, patch=layout).model_dump(mode="json")
        self._cls = ArrayWriter(folder / "cls", (n, views, width), rows, np.float16, said)
        self._patch: ArrayWriter | None = None
        self._scale: ArrayWriter | None = None
        if calibration is not None:
            mu, sigma = tuple(calibration.mu.tolist()), tuple(calibration.sigma.tolist())
            frozen = PatchAttributes(mu=mu, sigma=sigma, rotation_block=rotation_block(layout, width))
            self._patch = ArrayWriter(
                folder / "patch", (n, views, tokens, width), rows, _PATCH_DTYPE[layout], frozen.model_dump(mode="json")
            )
        if layout == "int8":
            self._scale = ArrayWriter(folder / "scale", (n, views, tokens), rows, np.float16)

    def missing(self) -> list[tuple[int, range]]:
        """(chunk, its rows) of every chunk that is not complete.

        Chunks are synced with the commit alone: one from before this machine's last start may be a name whose bytes a
        power cut kept from the disk, and is missing too.
        """
        up = _started()
        return [(chunk, self._cls.rows(chunk)) for chunk in range(self._cls.n_chunks) if not self._cls.has(chunk, up)]

    def write(
        self,
        chunk: int,
        cls_NVD: NDArray[np.float16],
        patch_NVTD: Array | None,
        scale_NVT: NDArray[np.float16] | None,
    ) -> None:
        """Write one chunk's rows of every array that the layout has."""
        if self._patch is not None and patch_NVTD is not None:
            self._patch.write(chunk, patch_NVTD)
        if self._scale is not None and scale_NVT is not None:
            self._scale.write(chunk, scale_NVT)
        self._cls.write(chunk, cls_NVD)


def _started() -> float:
    """When this machine was started, seconds of the epoch."""
    return time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _patch_nbytes(layout: str, tokens: int, width: int) -> int:
    return 0 if layout == "none" else tokens * width * _PATCH_DTYPE[layout].itemsize
