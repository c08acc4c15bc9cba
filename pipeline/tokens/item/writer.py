"""Writes one slide's answers, chunk after chunk, so that a killed run loses one chunk at most.

Shapes as in reader.py. The arrays are cut at the same rows, and lie in one shard each, or in several of `SHARD_NBYTES`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import BaseModel

from kernels.hadamard.blocks import block_of
from pipeline.base.arrays import ArrayForm, GroupWriter, balanced_rows
from pipeline.base.types import Array, Json
from pipeline.teachers.statistics import Calibration
from pipeline.tokens.item.attributes import ClsAttributes, PatchAttributes
from pipeline.tokens.item.sums import write_sums

CHUNK_NBYTES = 64_000_000
"""Of a `patch` chunk: large enough to be written at the disk's speed, small enough to lose."""
CHUNK_ROWS_MAX = 1024
SHARD_NBYTES = 512_000_000
"""Of a `patch` file: a slide of some 2,000 tiles in one; what a flipped byte makes doubtful at most."""
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


@dataclass(frozen=True)
class TokensForm:
    """What a slide's answers look like: n tiles, V views, cells (h, w) and width D of the teacher, the layout."""

    n: int
    views: int
    grid: tuple[int, int]
    width: int
    layout: str

    @property
    def tokens(self) -> int:
        """Patch tokens a tile, T."""
        return self.grid[0] * self.grid[1]


Whole = Mapping[str, tuple[ArrayForm, Array]]
"""Arrays beside the answers that are known from the start, by name: where tiles lie, what their views are."""


class TokenWriter:
    """The group of one item folder; `calibration` is None for layout `none`, `told` are the group's attributes.

    `resumable`: chunks that are written are found again after a kill, which costs two syncs each.
    """

    def __init__(
        self,
        folder: Path,
        form: TokensForm,
        calibration: Calibration | None,
        whole: Whole = MappingProxyType({}),
        told: Mapping[str, Json] = MappingProxyType({}),
        *,
        resumable: bool = True,
    ) -> None:
        rows = chunk_rows(form.n, form.layout, form.views, form.tokens, form.width)
        n_chunks = math.ceil(form.n / rows)
        a_file = math.ceil(n_chunks / math.ceil(n_chunks / _chunks_a_file(form, rows)))

        def array(
            dims: tuple[str, ...], shape: tuple[int, ...], dtype: DTypeLike, attributes: BaseModel | None = None
        ) -> ArrayForm:
            attrs = {} if attributes is None else attributes.model_dump(mode="json")
            return ArrayForm((form.n, form.views, *shape), rows, np.dtype(dtype), attrs, dims, a_file, ".")

        cls = ClsAttributes(grid=form.grid, patch=form.layout)
        self._arrays = {"cls": array(("tile", "view", "channel"), (form.width,), np.float16, cls)}
        if calibration is not None:
            mu, sigma = tuple(calibration.mu.tolist()), tuple(calibration.sigma.tolist())
            frozen = PatchAttributes(mu=mu, sigma=sigma, rotation_block=rotation_block(form.layout, form.width))
            dims, shape = ("tile", "view", "token", "channel"), (form.tokens, form.width)
            self._arrays["patch"] = array(dims, shape, _PATCH_DTYPE[form.layout], frozen)
        if form.layout == "int8":
            self._arrays["scale"] = array(("tile", "view", "token"), (form.tokens,), np.float16)
        self._folder = folder
        self._group = GroupWriter(folder, self._arrays, whole, told, resumable=resumable)

    def missing(self) -> list[tuple[int, range]]:
        """(chunk, its rows) of every chunk that is not complete."""
        return [(chunk, self._arrays["cls"].rows(chunk)) for chunk in self._group.missing()]

    def write(
        self,
        chunk: int,
        cls_NVD: NDArray[np.float16],
        patch_NVTD: Array | None,
        scale_NVT: NDArray[np.float16] | None,
    ) -> None:
        """Write one chunk's rows of every array that the layout has."""
        values = {"cls": cls_NVD, "patch": patch_NVTD, "scale": scale_NVT}
        self._group.write(chunk, {name: array for name, array in values.items() if array is not None})

    def close(self, cls_NVD: NDArray[np.float16] | None = None) -> None:
        """All chunks are written: make the group whole, and add up its CLS, all of which its maker may have at hand."""
        self._group.close()
        write_sums(self._folder, cls_NVD)


def _chunks_a_file(form: TokensForm, rows: int) -> int:
    """Chunks in a shard at most: where all of them would be too many, it is cut."""
    return max(1, SHARD_NBYTES // max(1, rows * form.views * _patch_nbytes(form.layout, form.tokens, form.width)))


def _patch_nbytes(layout: str, tokens: int, width: int) -> int:
    return 0 if layout == "none" else tokens * width * _PATCH_DTYPE[layout].itemsize
