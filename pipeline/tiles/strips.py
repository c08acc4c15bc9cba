"""Which pixels to read for the kept tiles: one strip for each run of neighbours in a row. Pure geometry, no I/O.

Reading a run at once decodes each of the slide's own tiles once a row instead of once a neighbour. A tile's pixels must
not depend on the strip they came in, so each is cut out by itself: the whole pixels that its size touches, from the
pixel of the level that is nearest to its corner.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.tiles.grid import Geometry

MAX_STRIP_PX = 1 << 19
"""Pixels of one read, where a tile has not more: 1.5 MiB as RGB, which are still cached when they are cut."""
_EPSILON = 1e-6


@dataclass(frozen=True)
class Box:
    """A tile in a read strip: whole pixels left:right, top:bottom."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Strip:
    """One read of `width_px` x `height_px` of the geometry's level at level-0 (x_l0, y_l0), and the tiles in it."""

    x_l0: int
    y_l0: int
    width_px: int
    height_px: int
    rows: tuple[int, ...]
    """Which of the kept tiles they are."""
    boxes: tuple[Box, ...]

    def single(self, i: int, geometry: Geometry) -> Strip:
        """The read of the strip's tile i alone."""
        box = self.boxes[i]
        x, y = (geometry.at_level(at) for at in (self.x_l0, self.y_l0))
        x_l0, y_l0 = (to_l0(geometry, at) for at in (x + box.left, y + box.top))
        width, height = box.right - box.left, box.bottom - box.top
        return Strip(x_l0, y_l0, width, height, (self.rows[i],), (Box(0, 0, width, height),))


def strips(
    geometry: Geometry,
    x_l0_N: NDArray[np.int64],
    y_l0_N: NDArray[np.int64],
    max_px: int = MAX_STRIP_PX,
    *,
    exact: bool = True,
) -> Iterator[Strip]:
    """The reads that cover N tiles in raster order, each tile once, in order.

    Without `exact` (see `SlideReader.exact`) a reader blends neighbouring pixels, differently for every origin: there
    each tile is read at its own corner.
    """
    run: list[int] = []
    for i in range(len(x_l0_N)):
        if run and not (exact and _joins(geometry, x_l0_N, y_l0_N, run, i, max_px)):
            yield _strip(geometry, x_l0_N, y_l0_N, run)
            run = []
        run.append(i)
    if run:
        yield _strip(geometry, x_l0_N, y_l0_N, run)


def _joins(
    geometry: Geometry, x_l0_N: NDArray[np.int64], y_l0_N: NDArray[np.int64], run: list[int], i: int, max_px: int
) -> bool:
    """Whether tile i touches the run's last tile, in one row, and the read stays small enough."""
    if y_l0_N[i] != y_l0_N[run[-1]]:
        return False
    width_l0 = x_l0_N[i] + geometry.size_l0[0] - x_l0_N[run[0]]
    pixels = (width_l0 / geometry.downsample + 2) * (geometry.size_l0[1] / geometry.downsample + 2)
    return bool(x_l0_N[i] - x_l0_N[run[-1]] <= geometry.size_l0[0] + 1 and pixels <= max_px)


def _strip(geometry: Geometry, x_l0_N: NDArray[np.int64], y_l0_N: NDArray[np.int64], run: list[int]) -> Strip:
    spans_x = [_span(geometry, 0, int(x_l0_N[i])) for i in run]
    spans_y = [_span(geometry, 1, int(y_l0_N[i])) for i in run]
    x, y = spans_x[0][0], min(top for top, _ in spans_y)
    boxes = tuple(
        Box(left - x, top - y, right - x, bottom - y)
        for (left, right), (top, bottom) in zip(spans_x, spans_y, strict=True)
    )
    width, height = max(box.right for box in boxes), max(box.bottom for box in boxes)
    return Strip(to_l0(geometry, x), to_l0(geometry, y), width, height, tuple(run), boxes)


def _span(geometry: Geometry, axis: int, at_l0: int) -> tuple[int, int]:
    """Along one axis, the whole pixels first:last of the level that a tile touches.

    A level may be a pixel shorter than level 0 divided by its downsample; the tile is moved back into it.
    """
    count = math.ceil(geometry.size_px[axis] - _EPSILON)
    first = max(0, min(geometry.at_level(at_l0), geometry.level_px[axis] - count))
    return first, min(first + count, geometry.level_px[axis])


def to_l0(geometry: Geometry, at: int) -> int:
    """The level-0 coordinate whose nearest pixel of the level is `at`."""
    return math.floor(at * geometry.downsample + 0.5)
