"""The chosen tiles of a slide, one after another: as pixels, read and shrunk; or as JPEG, kept as they are in the file
where they can be, else encoded.

Where a tile is one of the scanner's own JPEG tiles, pixel for pixel, that one is stored: nothing is decoded to be
encoded again, and there is no second loss. A tile that does not decode is given out as damaged, and the others go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.slides.read.reader import DamagedPixels, SlideReader
from pipeline.tiles.grid import Geometry
from pipeline.tiles.pixels import encode_jpeg
from pipeline.tiles.resample import shrink
from pipeline.tiles.scores import jpeg_sharpness, sharpness
from pipeline.tiles.strips import Strip, strips, to_l0

MASK_TOLERANCE = 0.1
"""By how much of a tile the mask, a few pixels of which a tile has, may overstate its tissue."""


_EPSILON = 1e-6


@dataclass(frozen=True)
class Cut:
    """Tile `row` of the chosen ones: its JPEG file, or None where it is damaged, and its sharpness (see scores.py)."""

    row: int
    jpeg: bytes | None
    sharpness: float = 0.0
    as_scanned: bool = False
    """The JPEG is the scanner's own."""

    def lost(self, min_sharpness: float) -> Literal["blurred", "damaged"] | None:
        """Why the tile is not kept, if it is not."""
        if self.jpeg is None:
            return "damaged"
        return "blurred" if self.sharpness < min_sharpness else None


@dataclass(frozen=True)
class Pixels:
    """Tile `row` of the chosen ones: (tile_px, tile_px, 3) uint8 RGB, or None where it is damaged."""

    row: int
    tile_HWC: NDArray[np.uint8] | None

    def encoded(self, jpeg_quality: int) -> Cut:
        """As a JPEG file, with its sharpness."""
        if self.tile_HWC is None:
            return Cut(self.row, None)
        return Cut(self.row, encode_jpeg(self.tile_HWC, jpeg_quality), sharpness(self.tile_HWC))


def cut(
    reader: SlideReader,
    geometry: Geometry,
    x_l0_N: NDArray[np.int64],
    y_l0_N: NDArray[np.int64],
    tissue_N: NDArray[np.float64],
    jpeg_quality: int,
) -> Iterator[Cut]:
    """The N tiles in order, damaged ones included. `jpeg_quality` of those that are made here.

    A file may leave out tiles of glass, which are white. Where more of a tile is left out than what is no tissue by
    `tissue_N`, the file has lost it, and it is damaged.
    """
    most_empty_N = _most_empty(tissue_N)
    for strip in strips(geometry, x_l0_N, y_l0_N, exact=reader.exact(geometry.level)):
        own = [_own(reader, geometry, int(x_l0_N[row]), int(y_l0_N[row]), row) for row in strip.rows]
        found = {part.row: part for part in own if part is not None}
        if not found:
            for tile in _read(reader, geometry, strip, most_empty_N):
                yield tile.encoded(jpeg_quality)
            continue
        for i, row in enumerate(strip.rows):
            if row in found:
                yield found[row]
            else:
                for tile in _read(reader, geometry, strip.single(i, geometry), most_empty_N):
                    yield tile.encoded(jpeg_quality)


def read_tiles(
    reader: SlideReader,
    geometry: Geometry,
    x_l0_N: NDArray[np.int64],
    y_l0_N: NDArray[np.int64],
    tissue_N: NDArray[np.float64],
) -> Iterator[Pixels]:
    """The N tiles in order as pixels, damaged ones included, as `cut` tells them."""
    most_empty_N = _most_empty(tissue_N)
    for strip in strips(geometry, x_l0_N, y_l0_N, exact=reader.exact(geometry.level)):
        yield from _read(reader, geometry, strip, most_empty_N)


def read_padded(reader: SlideReader, geometry: Geometry, x_l0: int, y_l0: int, row: int) -> Pixels:
    """A tile that sticks out of the slide: black beyond it, as TRIDENT and CLAM have it, which read by OpenSlide."""
    side_x, side_y = (math.ceil(side - _EPSILON) for side in geometry.size_px)
    x, y = geometry.at_level(x_l0), geometry.at_level(y_l0)
    left, top = max(0, x), max(0, y)
    right, bottom = min(geometry.level_px[0], x + side_x), min(geometry.level_px[1], y + side_y)
    whole_HWC = np.zeros((side_y, side_x, 3), np.uint8)
    if right > left and bottom > top:
        corner_l0 = to_l0(geometry, left), to_l0(geometry, top)
        try:
            part_HWC = reader.read(geometry.level, *corner_l0, right - left, bottom - top)
        except DamagedPixels:
            return Pixels(row, None)
        whole_HWC[top - y : bottom - y, left - x : right - x] = part_HWC
    return Pixels(row, shrink(whole_HWC, geometry.size_px, geometry.tile_px))


def _own(reader: SlideReader, geometry: Geometry, x_l0: int, y_l0: int, row: int) -> Cut | None:
    """The scanner's own tile, where the chosen one is just that."""
    if not geometry.as_is:
        return None
    try:
        x, y = geometry.at_level(x_l0), geometry.at_level(y_l0)
        jpeg = reader.stored_tile(geometry.level, x, y, geometry.tile_px)
        # The score decodes all of it, which shows whether it is whole.
        return None if jpeg is None else Cut(row, jpeg, jpeg_sharpness(jpeg), as_scanned=True)
    except (DamagedPixels, ValueError):
        return Cut(row, None)


def _most_empty(tissue_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which share of each tile the file may leave out as glass, (N,)."""
    return 1 - tissue_N + np.minimum(MASK_TOLERANCE, tissue_N / 2)


def _read(reader: SlideReader, geometry: Geometry, strip: Strip, most_empty_N: NDArray[np.float64]) -> Iterator[Pixels]:
    """The strip's tiles from its pixels; one by one where some of them do not decode."""
    try:
        strip_HWC = reader.read(geometry.level, strip.x_l0, strip.y_l0, strip.width_px, strip.height_px)
    except DamagedPixels:
        if len(strip.rows) == 1:
            yield Pixels(strip.rows[0], None)
            return
        for i in range(len(strip.rows)):
            yield from _read(reader, geometry, strip.single(i, geometry), most_empty_N)
        return
    empty_HW = reader.empty_HW
    for row, box in zip(strip.rows, strip.boxes, strict=True):
        if empty_HW is not None and empty_HW[box.top : box.bottom, box.left : box.right].mean() > most_empty_N[row]:
            yield Pixels(row, None)
            continue
        whole_HWC = strip_HWC[box.top : box.bottom, box.left : box.right]
        yield Pixels(row, shrink(whole_HWC, geometry.size_px, geometry.tile_px))
