"""Where tiles lie on a slide: pure geometry, no I/O.

Three pixel grids are involved, and a tile has a size in each:

- **requested**: `tile_px` at `target_mpp`, the same for every slide;
- **level 0**: `tile_px * scale`, where scale = target_mpp / the slide's own mpp; coordinates are kept in these pixels;
- **read level**: the coarsest pyramid level still as fine as requested; its pixels are read and resized.

Worked example, region-40x.tif: 10240 x 10240 px at 0.293 um/px, levels at 1, 2, 4 … times that. 256 px at 0.5 um/px are
128 um. scale = 0.5 / 0.293 = 1.7065, so a tile is 436.86 px at level 0 (437 px are read), and tiles start at 0, 437,
874, 1311, 1747 … px (i * 436.86, rounded). Level 1 has 0.586 um/px, coarser than requested, so level 0 is read and
resized 1.7065 times down: "20x" by name would have read level 1, 17 % too coarse. 23 tiles fit in a row (the 23rd ends
at 10048 px); the rest of 192 px is no whole tile: `skip` leaves it out, `shift` adds a tile that starts at 9803 px.

Tiles start on whole pixels of the level that is read. Where that level is within 1 % of the target, its pixels are
taken as they are: CMU-1-Small-Region.svs has 0.499 um/px, so a tile of 240 px at 0.5 um/px is 240 px of it, and starts
at 0, 240, 480 … px, where the scanner's own JPEG tiles start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import SlideRefused
from pipeline.params.tiles import TilesParams
from pipeline.slides.read.levels import is_reduced, require_readable

COARSER_BY = 1.05
"""Level 0 may be this much coarser than the target (0.502 um/px passes for 0.5); beyond it, resizing would invent."""
EQUAL_WITHIN = 1.01
"""A pyramid level this close to the target counts as equal to it, and is not resized."""
MAX_SLIDE_PX = 4e11
"""Pixels of level 0; the largest slides have a quarter of that, so a file that claims more lies."""
MAX_TILES = 1 << 21
"""Of one slide, glass included: a worker's memory is kept for so many. At 112 um a side, 26,000 mm2 have as many."""
_EPSILON = 1e-6


@dataclass(frozen=True)
class Geometry:
    """Tiles of one slide. Pairs are (x, y): pixels need not be square. `scale`: level-0 pixels per requested pixel."""

    tile_px: int
    step_px: int
    scale: tuple[float, float]
    slide_l0: tuple[int, int]
    """Width and height of level 0."""
    level: int
    level_px: tuple[int, int]
    """Width and height of the level that is read."""
    downsample: float
    """Level-0 pixels per pixel of that level."""

    @property
    def size_l0(self) -> tuple[float, float]:
        """Width and height of a tile in level-0 pixels; fractional."""
        return self.tile_px * self.scale[0], self.tile_px * self.scale[1]

    @property
    def size_px(self) -> tuple[float, float]:
        """Width and height of a tile in pixels of the level read; fractional, and whole where nothing is resized."""
        if self.as_is:
            return float(self.tile_px), float(self.tile_px)
        return self.size_l0[0] / self.downsample, self.size_l0[1] / self.downsample

    @property
    def as_is(self) -> bool:
        """Whether the level's pixels are the tiles' pixels."""
        return self.scale == (self.downsample, self.downsample)

    def at_level(self, at_l0: int) -> int:
        """The nearest pixel of the level to a level-0 coordinate."""
        return math.floor(at_l0 / self.downsample + 0.5)


@dataclass(frozen=True)
class Grid:
    """Starts of the columns (C,) and rows (R,) in level-0 pixels, int64; `lost` are the tiles that stick out."""

    x_l0: NDArray[np.int64]
    y_l0: NDArray[np.int64]
    lost: int

    def corners(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """x_l0 and y_l0 of every tile, each (R * C,), row after row."""
        return np.tile(self.x_l0, len(self.y_l0)), np.repeat(self.y_l0, len(self.x_l0))


def geometry_of(levels: Sequence[tuple[int, int, float]], mpp_xy: tuple[float, float], params: TilesParams) -> Geometry:
    """The geometry for a slide of `levels` (width, height, downsample) and `mpp_xy` um per level-0 pixel.

    Raises `SlideRefused` where level 0 is more than 5 % coarser than the target: pixels are not made up.
    """
    if max(mpp_xy) > params.target_mpp * COARSER_BY:
        what = f"coarser than the target: {max(mpp_xy):.4g} um/px, and tiles are asked for at {params.target_mpp:g}"
        raise SlideRefused(
            what, fix="scan it at a higher power, or raise tiles.target_mpp; nothing is upsampled by more than 5 %"
        )
    width, height, _ = levels[0]
    if not 0 < width * height <= MAX_SLIDE_PX:
        raise SlideRefused(f"it claims to be {width} x {height} px", fix="its metadata is damaged: copy it again")
    scale = (params.target_mpp / mpp_xy[0], params.target_mpp / mpp_xy[1])
    # A level is fine enough when neither of its axes is coarser than requested. Level 0 has passed above.
    finer = [
        i
        for i, (w, h, downsample) in enumerate(levels)
        if i == 0 or (downsample <= min(scale) * EQUAL_WITHIN and is_reduced((width, height), (w, h)))
    ]
    level = max(finer, key=lambda i: levels[i][2])
    if all(1 / EQUAL_WITHIN <= s / levels[level][2] <= EQUAL_WITHIN for s in scale):
        scale = (levels[level][2], levels[level][2])
    geometry = Geometry(
        tile_px=params.tile_px,
        step_px=params.tile_px - params.overlap_px,
        scale=scale,
        slide_l0=(levels[0][0], levels[0][1]),
        level=level,
        level_px=(levels[level][0], levels[level][1]),
        downsample=levels[level][2],
    )
    require_readable((math.ceil(geometry.size_px[0]), math.ceil(geometry.size_px[1])))
    return geometry


def lay(geometry: Geometry, edge: str) -> Grid:
    """The full grid over the slide, tissue or not; `edge` as in the params: `skip` or `shift`.

    Raises `SlideRefused` where it would have more than `MAX_TILES`.
    """
    across, down = (max(1.0, n / geometry.step_px / s) for n, s in zip(geometry.slide_l0, geometry.scale, strict=True))
    if across * down > MAX_TILES:
        what = f"its grid would have {across * down:.3g} tiles, and a worker's memory is kept for {MAX_TILES}"
        raise SlideRefused(what, fix="raise tiles.tile_px or tiles.target_mpp, or lower tiles.overlap_px")
    axes = [
        starts(length, size, geometry.step_px * scale, edge, geometry.downsample)
        for length, size, scale in zip(geometry.slide_l0, geometry.size_l0, geometry.scale, strict=True)
    ]
    (x_l0, all_x), (y_l0, all_y) = axes
    return Grid(x_l0, y_l0, lost=all_x * all_y - len(x_l0) * len(y_l0))


def starts(
    length_l0: int, size_l0: float, step_l0: float, edge: str, pixel_l0: float = 1.0
) -> tuple[NDArray[np.int64], int]:
    """Starts of the tiles along one axis, int64, and how many tiles it would take to cover the axis entirely.

    Start i is i * step_l0 rounded half up to a whole pixel of the level read (`pixel_l0` level-0 pixels wide), and that
    to level 0, so that it depends on nothing but i. Under `shift` a last tile is moved inside where less than the whole
    axis is covered, to within the pixel that a fractional size leaves (or two, where a pixel of the level is no whole
    number of level 0's), unless that would be the same tile again. An axis shorter than a tile has none.
    """
    limit = length_l0 - size_l0 + _EPSILON
    if limit < 0:
        return np.empty(0, np.int64), 1
    i = np.arange(math.floor(limit / step_l0) + 2)
    # Where a downsample is no whole number, level 0 can only come near the level's pixels: the nearest is meant.
    at = np.floor(np.floor(i * (step_l0 / pixel_l0) + 0.5) * pixel_l0 + 0.5).astype(np.int64)
    inside = at[at <= limit]
    last_px = math.floor(limit / pixel_l0)
    last = math.floor(last_px * pixel_l0 + 0.5)
    if last > limit:
        last = math.floor((last_px - 1) * pixel_l0 + 0.5)
    covered = last <= inside[-1] or float(inside[-1]) + size_l0 > length_l0 - pixel_l0
    if not covered and edge == "shift":
        return np.append(inside, last), len(inside) + 1
    return inside, len(inside) + (not covered)


def spread_choice(n: int, limit: int | None, seed: int) -> NDArray[np.int64]:
    """At most `limit` of n rows in raster order, sorted: one drawn from each of `limit` equal stretches of them.

    Every part of the tissue is represented, and the same seed draws the same rows.
    """
    if limit is None or n <= limit:
        return np.arange(n)
    edges = np.arange(limit + 1) * n // limit
    return np.random.default_rng(seed).integers(edges[:-1], edges[1:])
