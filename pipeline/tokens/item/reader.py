"""Reads one slide's cached answers by mapping its chunk files.

Shapes: N tiles, V views, T = h * w patch tokens in row-major order, D channels, n rows asked for.
An item's folder is a Zarr group of ordinary arrays: `cls` (N, V, D) float16; `patch` (N, V, T, D) int8 or float16;
`scale` (N, V, T) float16 for int8 alone. With layout `none` there is `cls` alone. `patch` is of standardised tokens,
which the layout int8 rotates in blocks of `rotation_block` channels (`kernels.hadamard.reference`). In stores of
earlier versions the folder is no group, and has a file a chunk.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.dequantise import dequantise
from pipeline.base.arrays import MappedArray, spans_of
from pipeline.base.errors import CorruptItem
from pipeline.base.types import Array, Rows
from pipeline.tokens.item.attributes import ClsAttributes, Space, space_of
from pipeline.tokens.item.sums import read_sums
from pipeline.views import StoredViews


class TokenReader:
    """One item of the store. Pickles only its folder; maps are opened lazily, in each process for itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def __reduce__(self) -> tuple[type[TokenReader], tuple[Path]]:
        return TokenReader, (self.folder,)

    def __len__(self) -> int:
        return len(self._cls)

    @property
    def views(self) -> int:
        return self._cls.shape[1]

    @property
    def width(self) -> int:
        return self._cls.shape[2]

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the teacher's token map; h * w = T."""
        return self._said.grid

    @property
    def layout(self) -> str:
        """`int8`, `fp16` or `none`."""
        return self._said.patch

    @property
    def mu(self) -> NDArray[np.float32]:
        """Mean of each channel of the teacher's patch tokens, (D,)."""
        return self._space.mu

    @property
    def sigma(self) -> NDArray[np.float32]:
        """Deviation of each channel, (D,): token = z * sigma + mu."""
        return self._space.sigma

    @property
    def rotation_block(self) -> int:
        """Channels that were rotated together before they were quantised; 1 where nothing was (layout fp16)."""
        return self._space.rotation_block

    @cached_property
    def view_fields(self) -> StoredViews:
        """What each view is: the exact input that its answers belong to."""
        return StoredViews(self.folder, self.views)

    def cls(self, rows: Rows) -> NDArray[np.float16]:
        """The teacher's global embeddings in its own space, (n, V, D)."""
        return self._cls.take(rows)

    @property
    def sums(self) -> NDArray[np.float64] | None:
        """Of CLS and its squares, (C, 2, D), see sums.py; None where the item has none."""
        return read_sums(self.folder, len(self), self.width)

    def patch(self, rows: Rows, view: int = 0) -> Array:
        """Patch tokens as they are stored, (n, T, D) int8 or float16."""
        return self._patch.take(rows, at=self._view(view))

    def scale(self, rows: Rows, view: int = 0) -> NDArray[np.float16]:
        """One scale a token, (n, T); layout int8 alone."""
        return self._scale.take(rows, at=self._view(view))

    def prepare(self, rows: Rows, *, dense: bool) -> None:
        """Have rows at hand before they are read, where the item lies in a bucket; `dense`: patch tokens too."""
        spans = spans_of(rows)
        self._cls.prepare(spans)
        if dense:
            self._patch.prepare(spans)
            if self.layout == "int8":
                self._scale.prepare(spans)

    def stored(self, rows: Rows) -> tuple[NDArray[np.float16], Array | None, NDArray[np.float16] | None]:
        """All that is kept of the rows, in all views: cls (n, V, D), patch (n, V, T, D), scale (n, V, T)."""
        patch_nVTD = None if self.layout == "none" else self._patch.take(rows)
        return self.cls(rows), patch_nVTD, self._scale.take(rows) if self.layout == "int8" else None

    def dequantised(self, rows: Rows, view: int = 0) -> NDArray[np.float32]:
        """Standardised patch tokens, (n, T, D) float32, whatever the layout."""
        stored_nTD = self.patch(rows, view)
        if stored_nTD.dtype == np.float16:
            return stored_nTD.astype(np.float32)
        scale_nT = torch.from_numpy(self.scale(rows, view))
        back: NDArray[np.float32] = dequantise(torch.from_numpy(stored_nTD), scale_nT, self.rotation_block).numpy()
        return back

    def _view(self, view: int) -> int:
        if not 0 <= view < self.views:
            raise IndexError(f"view {view} of {self.views} in {self.folder}")
        return view

    @cached_property
    def _cls(self) -> MappedArray:
        return MappedArray(self.folder / "cls")

    @cached_property
    def _said(self) -> ClsAttributes:
        return ClsAttributes.model_validate(self._cls.attributes)

    @property
    def _patch(self) -> MappedArray:
        return self._mapped_patch[0]

    @property
    def _space(self) -> Space:
        return self._mapped_patch[1]

    @cached_property
    def _mapped_patch(self) -> tuple[MappedArray, Space]:
        if self.layout == "none":
            fix = "set `tokens.patch` to int8 or fp16, or train without the patch objective"
            raise CorruptItem("the cache holds no patch tokens (tokens.patch: none)", where=str(self.folder), fix=fix)
        patch = MappedArray(self.folder / "patch")
        return patch, space_of(patch)

    @cached_property
    def _scale(self) -> MappedArray:
        return MappedArray(self.folder / "scale")
