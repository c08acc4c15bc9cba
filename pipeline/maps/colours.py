"""From embeddings to a colour a tile: `--by pca`, `--by similarity`, `--by head`.

Shapes: N tiles, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import MapError
from pipeline.base.types import Floats
from pipeline.maps.features import TileFeatures
from pipeline.maps.heads import Head
from pipeline.measures.fidelity.embedding import cosine
from pipeline.measures.pca import Projection
from pipeline.tiles.opencv import cv2

FEWEST = 4
"""Tiles of which three components can be told."""
_LOWEST = 2.0
"""Percentile of the cosines that is the darkest: one odd tile would take half of the colours else."""


@dataclass(frozen=True)
class Scale:
    """What the colours of a ramp mean: `low` is its first colour, `high` its last."""

    low: float
    high: float


@dataclass(frozen=True)
class Coloured:
    """A colour for each of N tiles, what it says in words, and the numbers behind it by name, (N) each."""

    rgb_N3: NDArray[np.uint8]
    title: str
    scale: Scale | None
    """None where the three colours are three numbers."""
    measured: Mapping[str, NDArray[np.float64]]
    marked: int | None = None
    """The row of the tile that all others are compared with."""


def by_pca(tiles: TileFeatures) -> Coloured:
    """The slide's own first three principal components. Raises `MapError` for a handful of tiles."""
    if len(tiles) < FEWEST:
        fix = "choose --by similarity, or a smaller --tile-px"
        raise MapError(f"{len(tiles)} tiles have no three components", where="--by pca", fix=fix)
    project = Projection.of(tiles.embedding_ND)
    along_N3 = (tiles.embedding_ND - project.mean_D) @ project.axes_D3
    shares = ", ".join(f"{100 * share:.0f} %" for share in project.explained)
    title = f"red, green, blue: principal components 1 to 3 ({shares} of the variance)"
    names = (f"PC{i + 1}" for i in range(3))
    return Coloured(project(tiles.embedding_ND), title, None, dict(zip(names, along_N3.T, strict=True)))


def by_similarity(tiles: TileFeatures, at_l0: tuple[float, float]) -> Coloured:
    """The cosine of each tile's embedding with that of the tile at (x, y). Raises `MapError` where there is none."""
    row = tiles.tile_at(*at_l0)
    cosine_N = cosine(tiles.embedding_ND, tiles.embedding_ND[row][None])
    scale = Scale(float(np.percentile(cosine_N, _LOWEST)), 1.0)
    x, y = tiles.corner_N2[row].tolist()
    return Coloured(ramp(cosine_N, scale), f"cosine with the tile at {x},{y}", scale, {"cosine": cosine_N}, marked=row)


def by_head(tiles: TileFeatures, head: Head, name: str | None) -> Coloured:
    """The probability of one class, by default the last. Raises `MapError` where the head has no such class."""
    if name is not None and name not in head.names:
        raise MapError(f"no such class: {name}", where="--class", fix=f"one of {', '.join(head.names)}")
    chosen = name or head.names[-1]
    probability_NC, scale = head(tiles.embedding_ND), Scale(0.0, 1.0)
    measured = {f"probability of {each}": probability_NC[:, i] for i, each in enumerate(head.names)}
    rgb_N3 = ramp(probability_NC[:, head.names.index(chosen)], scale)
    return Coloured(rgb_N3, f"probability of {chosen}", scale, measured)


def ramp(value_N: Floats, scale: Scale) -> NDArray[np.uint8]:
    """Viridis from the scale's low end to its high one, (N, 3): evenly bright for every kind of sight."""
    share_N = (np.asarray(value_N, np.float64) - scale.low) / max(scale.high - scale.low, 1e-9)
    index_N = (255 * np.clip(share_N, 0, 1)).round().astype(np.uint8)
    bgr_N13 = cv2.applyColorMap(index_N[:, None], cv2.COLORMAP_VIRIDIS)
    return np.ascontiguousarray(bgr_N13[:, 0, ::-1])
