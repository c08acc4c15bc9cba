"""The array `views` beside a slide's tokens: what was done to each tile before the teacher answered.

(N, V, P) float32 for N tiles, V views and P = len(FIELDS); its attributes name the `fields`, and `source_px`, the side
at which tiles are decoded before a view is applied. Where every tile has the same dihedral views there is no such
array, and view v is element v of the tile as it is decoded at the side that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import ArrayForm, MappedArray, balanced_rows
from pipeline.base.errors import CorruptItem
from pipeline.base.manifest import fact_of
from pipeline.base.types import Array, Json, Rows
from pipeline.params.tokens import TokensParams
from pipeline.views.fields import FIELDS, Place, batch_fields, dihedral_fields

ARRAY = "views"
_CHUNK_ROWS = 65536


def stores_fields(params: TokensParams) -> bool:
    """Whether views differ from tile to tile, so that their fields are stored beside the tokens."""
    return params.augment.views > 0


def fields_nbytes(params: TokensParams) -> int:
    """Bytes that one tile's fields take in the store."""
    return params.n_views * len(FIELDS) * 4 if stores_fields(params) else 0


def source_px(params: TokensParams, tile_px: int, input_px: int) -> int:
    """The side at which tiles are decoded: a crop is cut from the tile as it is stored, else one resize is enough."""
    return tile_px if stores_fields(params) else input_px


def fields_array(
    params: TokensParams, drawn_by: Callable[[int], Place], n: int, tile_px: int
) -> dict[str, tuple[ArrayForm, Array]]:
    """The array of a slide's n tiles by its name, (n, V, P) float32; nothing where none is to be stored.

    `drawn_by` gives of each row what its views are drawn by.
    """
    if not stores_fields(params):
        return {}
    shape = (n, params.n_views, len(FIELDS))
    attributes: dict[str, Json] = {"fields": list(FIELDS), "source_px": tile_px}
    rows, dims = balanced_rows(n, _CHUNK_ROWS), ("tile", "view", "field")
    form = ArrayForm(shape, rows, np.dtype(np.float32), attributes, dims, separator=".")
    return {ARRAY: (form, batch_fields(params, [drawn_by(row) for row in range(n)], n))}


class StoredViews:
    """The views of one item folder whose tokens have `views` of them."""

    def __init__(self, folder: Path, views: int) -> None:
        self.views = views
        self._array = MappedArray(folder / ARRAY) if (folder / ARRAY).exists() else None
        if self._array is not None and (
            self._array.attributes["fields"] != list(FIELDS) or self._array.shape[1:] != (views, len(FIELDS))
        ):
            what = (
                f"views of {self._array.shape} {self._array.attributes['fields']}, not (N, {views}, P) {list(FIELDS)}"
            )
            raise CorruptItem(what, where=str(folder), fix="was it written by another version? dvc repro tokens")

    @property
    def source_px(self) -> int | None:
        """The side at which a tile is decoded before a view is applied; None: at the side that is wanted."""
        return None if self._array is None else fact_of(self._array.attributes, "source_px", int, "tokens")

    def fields(self, rows: Rows, views: Rows) -> NDArray[np.float32]:
        """The fields of view `views[i]` of tile `rows[i]`, (n, P) float32."""
        if self._array is None:
            fields_NP: NDArray[np.float32] = dihedral_fields(self.views)[views]
        else:
            fields_NP = self._array.take(rows)[np.arange(len(rows)), views]
        return fields_NP
