"""Which tiles of a slide are kept: those of the grid that have tissue, or those of a tiling made elsewhere.

Legend: A = all tiles considered; N = those worth reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import SlideRefused
from pipeline.params.tiles import TilesParams
from pipeline.tiles.coords.tiling import Tiling
from pipeline.tiles.grid import COARSER_BY, Geometry, geometry_of, lay
from pipeline.tiles.tissue import TissueMask, box_means, coverage

MAX_INK = 0.1
"""Share of a tile that may be ink or its margin: a stroke across a corner passes, one through the tile does not."""

Unseen = Sequence[tuple[float, float, float, float]]
"""Boxes x0, y0, x1, y1, as fractions of the slide's width and height."""


class NoTiles(Exception):
    """No tile of the grid is worth reading; lost/no_tiles.py finds out why, and refuses the slide with what would help.

    Of the grid's tiles the one with most tissue has the share `coverage` of it; `blank` would have been kept but for
    their stain, the strongest of which is `stain`.
    """

    def __init__(self, coverage: float, blank: int, stain: float) -> None:
        super().__init__(coverage, blank, stain)
        self.coverage, self.blank, self.stain = coverage, blank, stain


@dataclass(frozen=True)
class Choice:
    """The tiles worth reading: corners in level-0 pixels and share of tissue (N,), both stains (N, 2).

    They are in raster order, those of a tiling made elsewhere in its own.

    `dropped` counts the others. `glass`: too little tissue; `pen`: tissue enough, but for the ink, or more than
    `MAX_INK` of it; `blank`: hardly any stain; `edge`: not whole; and what is counted by whoever reads their pixels:
    `blurred`, out of focus; `damaged`, not decodable; `limit`, more than max_tiles_per_slide.
    """

    x_l0: NDArray[np.int64]
    y_l0: NDArray[np.int64]
    tissue: NDArray[np.float64]
    stain: NDArray[np.float64]
    dropped: dict[str, int]
    lost: dict[str, NDArray[np.int64]]
    """Corners, (M, 2) in level-0 pixels, of the tiles that were dropped though they have tissue, by reason."""


def choose(geometry: Geometry, mask: TissueMask, params: TilesParams, unseen: Unseen = ()) -> Choice:
    """The tiles of the grid that have enough tissue. Raises `NoTiles` where there is none.

    Tiles that touch what the mask's picture could not show (`SlideReader.unseen`) are never `blank`: it is white there.
    """
    grid = lay(geometry, params.edge)
    x_l0_A, y_l0_A = grid.corners()
    box_A4 = _pixels(geometry, mask, x_l0_A, y_l0_A)
    tissue_A, either_A = coverage(mask.tissue, box_A4), coverage(mask.tissue | mask.pen, box_A4)
    # A tile without any tissue is never kept, even at a min_coverage of 0.
    enough = max(params.tissue.min_coverage, 1e-6)
    inked_A = (either_A >= enough) & ((tissue_A < enough) | (coverage(mask.pen, box_A4) > MAX_INK))
    kept_A = (tissue_A >= enough) & ~inked_A
    stain_A2 = _stain(mask, box_A4)
    blank_A = kept_A & (stain_A2.sum(1) < params.min_stain) & ~touching(geometry, x_l0_A, y_l0_A, unseen)
    kept = np.flatnonzero(kept_A & ~blank_A)
    if not len(kept):
        most = float(tissue_A.max(initial=0.0))
        raise NoTiles(most, int(blank_A.sum()), float(stain_A2.sum(1)[blank_A].max(initial=0.0)))
    dropped = {
        "glass": int((~kept_A & ~inked_A).sum()),
        "pen": int(inked_A.sum()),
        "blank": int(blank_A.sum()),
        "edge": grid.lost,
        "limit": 0,
        "blurred": 0,
        "damaged": 0,
    }
    corner_A2 = np.stack([x_l0_A, y_l0_A], axis=1)
    lost = {"pen": corner_A2[inked_A], "blank": corner_A2[blank_A]}
    return Choice(x_l0_A[kept], y_l0_A[kept], tissue_A[kept], stain_A2[kept], dropped, lost)


def geometry_given(levels: Sequence[tuple[int, int, float]], tiling: Tiling, params: TilesParams) -> Geometry:
    """The geometry for a tiling made elsewhere: its side in level-0 pixels becomes `tile_px`, whatever the mpp.

    Raises `SlideRefused` where its tiles are more than 5 % smaller than `tile_px`: pixels are not made up.
    """
    scale = tiling.side_l0 / params.tile_px
    if scale * COARSER_BY < 1:
        what = f"its coordinates are of tiles of {tiling.side_l0:g} px, and tiles.tile_px is {params.tile_px}"
        raise SlideRefused(
            what, fix=f"lower tiles.tile_px to {int(tiling.side_l0)}; nothing is upsampled by more than 5 %"
        )
    return geometry_of(levels, (1.0, 1.0), params.model_copy(update={"target_mpp": scale, "overlap_px": 0}))


def choose_given(geometry: Geometry, tiling: Tiling, mask: TissueMask) -> Choice:
    """All tiles of a tiling made elsewhere, in its order: this mask does not judge them but gives their scores.

    Those that stick out of the slide too, or lie off it: features made elsewhere are of just these rows. Raises
    `SlideRefused` where most are off it.
    """
    x_l0_N, y_l0_N = tiling.corner_N2.T
    box_N4 = fractions(geometry, x_l0_N, y_l0_N)
    on = int(((box_N4[:, :2] < 1).all(1) & (box_N4[:, 2:] > 0).all(1)).sum())
    if 2 * on < len(x_l0_N):
        what = f"of its {len(x_l0_N)} coordinates {on or 'none'} {'are' if on > 1 else 'is'} on the slide"
        fix = "are they of this slide, corners in its level-0 pixels? else empty its coords cell"
        raise SlideRefused(what, fix=fix)
    box_N4 = _pixels(geometry, mask, x_l0_N, y_l0_N)
    dropped = {"limit": 0, "blurred": 0, "damaged": 0}
    return Choice(x_l0_N, y_l0_N, coverage(mask.tissue, box_N4), _stain(mask, box_N4), dropped, {})


def sticking_out(geometry: Geometry, x_l0_N: NDArray[np.int64], y_l0_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which tiles are not wholly on the slide, (N,); a side that was rounded may stick out by a fraction of a pixel."""
    (width_l0, height_l0), (side_x, side_y) = geometry.slide_l0, geometry.size_l0
    whole_N = (x_l0_N >= 0) & (y_l0_N >= 0) & (x_l0_N + side_x < width_l0 + 1) & (y_l0_N + side_y < height_l0 + 1)
    return ~whole_N


def fractions(geometry: Geometry, x_l0_N: NDArray[np.int64], y_l0_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """x0, y0, x1, y1 of each tile as fractions of the slide's width and height, (N, 4)."""
    (width, height), (width_l0, height_l0) = geometry.slide_l0, geometry.size_l0
    box_4N = (x_l0_N / width, y_l0_N / height, (x_l0_N + width_l0) / width, (y_l0_N + height_l0) / height)
    return np.stack(box_4N, axis=1)


def touching(
    geometry: Geometry, x_l0_N: NDArray[np.int64], y_l0_N: NDArray[np.int64], boxes: Unseen
) -> NDArray[np.bool_]:
    """Which tiles touch one of the boxes, (N,)."""
    tile_N4, found_N = fractions(geometry, x_l0_N, y_l0_N), np.zeros(len(x_l0_N), bool)
    for x0, y0, x1, y1 in boxes:
        found_N |= (tile_N4[:, 0] < x1) & (tile_N4[:, 2] > x0) & (tile_N4[:, 1] < y1) & (tile_N4[:, 3] > y0)
    return found_N


def _pixels(
    geometry: Geometry, mask: TissueMask, x_l0_A: NDArray[np.int64], y_l0_A: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The same in pixels of the mask."""
    height, width = mask.tissue.shape
    return fractions(geometry, x_l0_A, y_l0_A) * (width, height, width, height)


def _stain(mask: TissueMask, box_A4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean optical density of haematoxylin and eosin over each box, (A, 2)."""
    (down, across), (height, width) = mask.stain.shape[:2], mask.tissue.shape
    own_A4 = box_A4 * np.array([across / width, down / height, across / width, down / height])
    return np.stack([box_means(mask.stain[..., i], own_A4) for i in range(2)], axis=1)
