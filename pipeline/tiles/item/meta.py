"""meta.json of a tiles item as a type: what its tiles are of, what was dropped, and of a slide, how it was read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

META_FILE = "meta.json"
TABLE_FILE, JPEG_ARRAY, OFFSETS_ARRAY = "tiles.parquet", "jpeg", "offsets"
"""The other parts of an item: the tiles' table, and two Zarr arrays (writer.py)."""
IMAGES = ("folder", "images")
"""Kinds of items that are pictures which somebody put together, and not one slide."""


class Meta(BaseModel):
    """What every item has: n tiles, how many have each label, how many were left out by reason.

    `tissue_mm2` is the slide's; a folder of images has none. `left_out` names the files of a folder that became no
    tile, each with the reason.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["file", "folder", "demo", "images"]
    tile_px: int
    tissue_mm2: float | None = None
    dropped: Mapping[str, int] = Field(default={})
    n: int = 0
    labels: Mapping[str, int] = Field(default={})
    left_out: tuple[tuple[str, str], ...] = ()


class SlideMeta(Meta):
    """Of a slide; pairs are (x, y), `size_l0_px` of a tile and `slide_l0_px` of the slide are in level-0 pixels.

    `read_level` and `read_downsample` are of the level that was read, decoded at 1 / `dct_scale` by `reader`;
    `as_scanned` tiles are the file's own JPEG. `mask_mpp` is um per pixel of the tissue mask, and `tissue_threshold`
    the saturation that it took (0: from the slide's own mask). `bounds_l0_px` is what was scanned, x, y, width and
    height, where the slide says so; `remarks` are what is odd about its mask or coordinates.
    """

    mpp: tuple[float, float]
    mpp_from: str
    size_l0_px: tuple[float, float]
    slide_l0_px: tuple[int, int]
    read_level: int
    read_downsample: float
    dct_scale: int
    reader: str
    as_scanned: int
    mask_mpp: tuple[float, float]
    tissue_threshold: float
    bounds_l0_px: tuple[int, int, int, int] | None = None
    remarks: tuple[str, ...] = ()


_ANY_META: TypeAdapter[Meta] = TypeAdapter(SlideMeta | Meta)


def read_meta(folder: Path) -> Meta:
    """meta.json of an item's folder: a `SlideMeta` where it is a slide's."""
    return _ANY_META.validate_json((folder / META_FILE).read_bytes())
