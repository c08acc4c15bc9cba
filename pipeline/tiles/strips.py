"""Which pixels to read for the kept tiles: one strip for each run of neighbours in a row. Pure geometry, no I/O.

Reading a run at once decodes each of the slide's own tiles once a row instead of once a neighbour. A tile's pixels must
not depend on the strip they came in, so each is cut out by itself: the whole pixels that its box touches, and the box
within them, both independent of the strip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.tiles.grid import Geometry

MAX_STRIP_PX = 16 << 20
"""Pixels of one read: 64 MiB as OpenSlide's RGBA."""
_EPSILON = 1e-6


@dataclass(frozen=True)
class Box:
    """A tile in a read strip: whole pixels left:right, top:bottom, and the fractional box within that cut-out."""

    left: int
    top: int
    right: int
    bottom: int
    inner: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels of the cut-out."""


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


def strips(
    geometry: Geometry, x_l0_N: NDArray[np.int64], y_l0_N: NDArray[np.int64], max_px: int = MAX_STRIP_PX
) -> Iterator[Strip]:
    """The reads that cover N tiles in raster order, each tile once, in order."""
    run: list[int] = []
    for i in range(len(x_l0_N)):
        if run and not _joins(geometry, x_l0_N, y_l0_N, run, i, max_px):
            yield _strip(geometry, x_l0_N, y_l0_N, run)
            run = []
        run.append(i)
    if run:
        yield _strip(geometry, x_l0_N, y_l0_N, run)


def _joins(
    geometry: Geometry, x_l0_N: NDArray[np.int64], y_l0_N: NDArray[np.int64], run: list[int], i: int, max_px: int
) -> bool:
    """Whether tile i touches the run's last tile, in one row, and the read stays small enough."""
    # Between pixels of level 0, a level whose downsample is no whole number cannot be addressed: OpenSlide resamples,
    # differently for every origin. There each tile is read at its own corner.
    if geometry.downsample != round(geometry.downsample) or y_l0_N[i] != y_l0_N[run[-1]]:
        return False
    width_l0 = x_l0_N[i] + geometry.size_l0[0] - x_l0_N[run[0]]
    pixels = (width_l0 / geometry.downsample + 2) * (geometry.size_l0[1] / geometry.downsample + 2)
    return bool(x_l0_N[i] - x_l0_N[run[-1]] <= geometry.size_l0[0] + 1 and pixels <= max_px)


def _strip(geometry: Geometry, x_l0_N: NDArray[np.int64], y_l0_N: NDArray[np.int64], run: list[int]) -> Strip:
    x_l0, y_l0, downsample = int(x_l0_N[run[0]]), int(y_l0_N[run[0]]), geometry.downsample
    if downsample == round(downsample):
        # The strip starts on a whole pixel of its level.
        x_l0 -= x_l0 % round(downsample)
        y_l0 -= y_l0 % round(downsample)
    boxes = []
    for i in run:
        left, right, x0, x1 = _span(geometry, 0, int(x_l0_N[i]), x_l0)
        top, bottom, y0, y1 = _span(geometry, 1, int(y_l0_N[i]), y_l0)
        boxes.append(Box(left, top, right, bottom, (x0, y0, x1, y1)))
    return Strip(x_l0, y_l0, boxes[-1].right, max(box.bottom for box in boxes), tuple(run), tuple(boxes))


def _span(geometry: Geometry, axis: int, at_l0: int, origin_l0: int) -> tuple[int, int, float, float]:
    """Along one axis: the whole pixels first:last of a strip from `origin_l0`, and the tile's span within them."""
    start = (at_l0 - origin_l0) / geometry.downsample
    first = math.floor(start + _EPSILON)
    size = geometry.size_l0[axis] / geometry.downsample
    # A level may be a pixel shorter than level 0 divided by its downsample.
    room = geometry.level_px[axis] - math.floor(origin_l0 / geometry.downsample + _EPSILON)
    last = min(math.ceil(start + size - _EPSILON), room)
    return first, last, max(0.0, start - first), min(start + size - first, float(last - first))
