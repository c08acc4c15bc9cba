"""What is known of one slide when its tiles are answered: all that any format writes.

Shapes: N tiles in the order of their tiling, D channels. Coordinates are level-0 pixels (x, y)
of top left corners, as in OpenSlide, TRIDENT and CLAM.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from pipeline.base.types import Json, Recipe
from pipeline.embed.encoders.encoder import Facts
from pipeline.embed.token_file import PatchTokens
from pipeline.tiles.grid import Geometry


@dataclass(frozen=True)
class SlideFacts:
    """The slide: um per level-0 pixel (x, y), its levels (width, height, downsample), and its file or URL."""

    name: str
    where: str
    below: PurePath
    mpp_xy: tuple[float, float]
    levels: tuple[tuple[int, int, float], ...]
    coords: Path | None
    """The tiling that it was given."""


@dataclass(frozen=True)
class Features:
    """One slide's answers; `tissue_N` is the share of tissue in each tile."""

    slide: SlideFacts
    geometry: Geometry
    overlap_px: int
    corner_N2: NDArray[np.int64]
    tissue_N: NDArray[np.float32]
    embedding_ND: NDArray[np.float32]
    encoder: Facts
    stands_for: str | None
    stamp: Recipe
    """Of what it was made, as it is written into the file (see stamps.py)."""
    patch: PatchTokens | None = None
    """Where they are asked for."""

    def __len__(self) -> int:
        return len(self.corner_N2)

    @property
    def called(self) -> str:
        """What the encoder is called where a tool looks features up by encoder."""
        return self.stands_for or self.encoder.name

    @property
    def side_l0(self) -> float:
        """Of a tile, level-0 pixels, the wider axis where pixels are not square."""
        return max(self.geometry.size_l0)

    @property
    def tile_mpp(self) -> float:
        """um per pixel of a tile, along x."""
        return self.slide.mpp_xy[0] * self.geometry.size_l0[0] / self.geometry.tile_px

    @property
    def tile_um(self) -> float:
        """Side of a tile in micrometres, along x."""
        return self.slide.mpp_xy[0] * self.geometry.size_l0[0]

    @property
    def stamp_text(self) -> str:
        return json.dumps(self.stamp, sort_keys=True)

    def about(self) -> dict[str, Json]:
        """The tiling in plain data, for formats that have room for it."""
        width_l0, height_l0 = self.geometry.size_l0
        return {
            "tile_px": self.geometry.tile_px,
            "tile_mpp": self.tile_mpp,
            "tile_width_l0": width_l0,
            "tile_height_l0": height_l0,
            "overlap_px": self.overlap_px,
            "mpp_x": self.slide.mpp_xy[0],
            "mpp_y": self.slide.mpp_xy[1],
            "slide_width_l0": self.geometry.slide_l0[0],
            "slide_height_l0": self.geometry.slide_l0[1],
            "encoder": self.called,
        }
