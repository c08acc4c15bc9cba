"""What a tokens item says of itself beside its answers: where the tiles lie, and what the Zarr group and arrays are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.base.arrays import ArrayForm, MappedArray
from pipeline.base.types import Array, Json, Recipe
from pipeline.tiles.item.meta import SlideMeta
from pipeline.tiles.item.reader import TileReader

IMPORTED = "imported"
"""In a recipe and an item: what made answers that were not computed here (room imports), and in which form."""
UNITS: dict[str, Json] = {
    "x_l0": "pixels of level 0, of the tile's left edge",
    "y_l0": "pixels of level 0, of the tile's top edge",
    "size_l0_px": "pixels of level 0, width and height of a tile; with several scales, of those at the first",
    "mpp": "um per pixel of each tile, where they are of several scales",
    "mpp_l0": "um per pixel of level 0, x and y",
    "cls": "the teacher's own space",
    "patch": "z = (x - mu) / sigma of the teacher's own space; int8: z rotated, divided by scale",
}


class ClsAttributes(BaseModel):
    """Of `cls`: (h, w) of the teacher's token map, and the layout of its patch tokens (`int8`, `fp16`, `none`)."""

    model_config = ConfigDict(frozen=True)
    grid: tuple[int, int]
    patch: str


class PatchAttributes(BaseModel):
    """Of `patch`: mean and deviation of each channel, and how many channels were rotated together (1: none were)."""

    model_config = ConfigDict(frozen=True)
    mu: tuple[float, ...]
    sigma: tuple[float, ...]
    rotation_block: int = 1


@dataclass(frozen=True)
class Space:
    """`PatchAttributes` as arrays, float32 (D,), of which items of one recipe share the same ones in memory."""

    mu: NDArray[np.float32]
    sigma: NDArray[np.float32]
    rotation_block: int


def space_of(patch: MappedArray) -> Space:
    """What `patch` says of itself, which the array then lets go: as Python's numbers it is 70 KB a slide."""
    said = PatchAttributes.model_validate(patch.attributes)
    patch.attributes.clear()
    return _space(
        np.array(said.mu, np.float32).tobytes(), np.array(said.sigma, np.float32).tobytes(), said.rotation_block
    )


@lru_cache(maxsize=64)
def _space(mu: bytes, sigma: bytes, rotation_block: int) -> Space:
    return Space(np.frombuffer(mu, np.float32).copy(), np.frombuffer(sigma, np.float32).copy(), rotation_block)


def place_arrays(reader: TileReader) -> dict[str, tuple[ArrayForm, Array]]:
    """`x_l0` and `y_l0` of the tiles, int64 (N,), and their `mpp`, float64 (N,), where they are of several scales.

    Raises `CorruptItem` where their table cannot be read.
    """
    place_N2, mpp_N, n = reader.places, reader.scales, len(reader)
    found: dict[str, Array] = {name: place_N2[:, axis] for axis, name in enumerate(("x_l0", "y_l0"))}
    if mpp_N is not None:
        found["mpp"] = mpp_N.astype(np.float64)
    return {
        name: (ArrayForm((n,), n, values.dtype, dims=("tile",), separator="."), values)
        for name, values in found.items()
    }


def told(recipe: Recipe, reader: TileReader) -> dict[str, Json]:
    """Attributes of the group: the teacher, how it ran, the tiles' size and scale, and the arrays' units."""
    meta = reader.meta
    found: dict[str, Json] = {name: recipe[name] for name in ("teacher", "precision", "patch") if name in recipe}
    found |= {"tile_px": meta.tile_px, "units": UNITS}
    if isinstance(meta, SlideMeta):
        found |= {"size_l0_px": list(meta.size_l0_px), "mpp_l0": list(meta.mpp)}
    return found
