"""Slides by the shortest way: tiled TIFFs decoded tile by tile, where that gives OpenSlide's pixels.

In raster order each tile is decoded once, as long as the rows it is needed for fit the cache (`CACHE_NBYTES`).

OpenSlide still opens every slide and says what it is. On the first read of a level, some of its tiles are read both
ways; only where every pixel is the same are that level's tiles decoded here, and otherwise by OpenSlide. The choice
depends on the file alone, so the same file gives the same bytes in every run.

Where a level's downsample is no whole number, OpenSlide can only address it between its pixels, and blends them; here
a position means the nearest pixel of the level, unblended.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import SlideRefused
from pipeline.slides.read.levels import require_readable
from pipeline.slides.read.reader import DAMAGED_FIX, TIFF_VENDORS, DamagedPixels, SlideReader
from pipeline.slides.read.tiff import MAX_TILES, DamagedTile, TiffLevel, TiledTiff, check_jpeg_size
from pipeline.slides.table import Mpp

How = Literal["auto", "openslide", "direct"]
CACHE_NBYTES = 256 << 20
"""Decoded tiles kept at most: four rows of 256 px tiles of a slide 87,000 px wide, so that none is decoded twice."""
CHECKED = (0.5, 0.75, 0.95)
"""Which tiles of a level are compared, as quantiles of their compressed size: tissue compresses worst."""
_CHECK_PX = 48


@dataclass
class _Cache:
    """Decoded tiles of one level: slot by tile, least recently used first, and the slots (S, tile_h, tile_w, 3).

    A slot's memory is taken when it is first written, and no more than `most` are used.
    """

    slots_SHWC: NDArray[np.uint8]
    slots: OrderedDict[int, int]
    most: int


class DirectReader(SlideReader):
    """A slide whose tiles are decoded here where that is the same; see the module. `method` says what was found."""

    def __init__(self, path: Path, mpp: Mpp = None, how: Literal["auto", "direct"] = "auto") -> None:
        super().__init__(path, mpp)
        self.cache_nbytes = CACHE_NBYTES
        self._how = how
        self._tiff: TiledTiff | None = None
        self._why = f"{self.vendor} is read by OpenSlide"
        self._same: dict[int, bool] = {}
        self._cached: tuple[int, _Cache] | None = None
        sizes = zip(self.level_dimensions, self._own_tile_px, strict=True)
        n_tiles = sum(-(-w // max(1, tile_w)) * -(-h // max(1, tile_h)) for (w, h), (tile_w, tile_h) in sizes)
        if n_tiles > MAX_TILES:
            self._why = f"it has {n_tiles} tiles"
        elif self.vendor in TIFF_VENDORS:
            try:
                self._tiff = TiledTiff(path)
            except Exception as error:
                # What OpenSlide opens, tifffile may still stumble over, with whatever exception; OpenSlide then reads.
                self._why = f"tifffile does not parse it: {error}"

    @property
    def method(self) -> str:
        """`direct`, or `openslide` and why; of the levels read so far."""
        if self._same and all(self._same.values()):
            return "direct"
        return f"openslide ({self._why})" if self._same else "openslide (nothing read yet)"

    def exact(self, level: int) -> bool:
        return super().exact(level) or self._direct(level) is not None

    def read(self, level: int, x_l0: int, y_l0: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
        tiff_level = self._direct(level)
        if tiff_level is None:
            return super().read(level, x_l0, y_l0, width_px, height_px)
        downsample = self.level_downsamples[level]
        x, y = round(x_l0 / downsample), round(y_l0 / downsample)
        off_grid = max(abs(x * downsample - x_l0), abs(y * downsample - y_l0)) > 0.5 + 1e-6
        if off_grid or self._recorded_in_part(tiff_level, x, y, width_px, height_px):
            return super().read(level, x_l0, y_l0, width_px, height_px)
        return self._assemble(level, tiff_level, x, y, width_px, height_px)

    def thumbnail(self, max_px: int) -> NDArray[np.uint8]:
        """As `SlideReader.thumbnail`. Its tiles are not kept: what is done with a picture needs the memory."""
        thumb_HWC = super().thumbnail(max_px)
        self._cached = None
        return thumb_HWC

    def stored_tile(self, level: int, x: int, y: int, side_px: int) -> bytes | None:
        """The slide's own JPEG of the square at pixel (x, y) of `level`, as a file of its own; None where it has none.

        It decodes to what `read` gives, or not at all: only its header is looked at. Raises `DamagedPixels`.
        """
        tiff_level = self._direct(level)
        if tiff_level is None or tiff_level.header is None or (tiff_level.tile_w, tiff_level.tile_h) != (side_px,) * 2:
            return None
        inside = x + side_px <= tiff_level.width_px and y + side_px <= tiff_level.height_px
        if x % side_px or y % side_px or not inside:
            return None
        tile = y // side_px * tiff_level.across + x // side_px
        if not tiff_level.nbytes[tile]:
            return None
        assert self._tiff is not None
        try:
            data = self._tiff.compressed(tiff_level, tile)
            check_jpeg_size(data, (side_px, side_px))
        except DamagedTile as error:
            raise self._damaged(error, tile) from None
        return data

    def close(self) -> None:
        super().close()
        self._cached = None
        if self._tiff is not None:
            self._tiff.close()
            self._tiff = None

    def _direct(self, level: int) -> TiffLevel | None:
        """The TIFF's page of a level, where it may be used."""
        if self._tiff is None:
            self._same.setdefault(level, False)
            return None
        tiff_level = self._tiff.levels.get(self.level_dimensions[level])
        if level not in self._same:
            self._same[level] = tiff_level is not None and self._agrees(level, tiff_level)
            if not self._same[level]:
                self._why = f"level {level} differs" if tiff_level else f"level {level} is no page of RGB tiles"
                if self._how == "direct":
                    raise SlideRefused(self._why, where=self.path.name, fix="set tiles.reader to auto")
        return tiff_level if self._same[level] else None

    def _agrees(self, level: int, tiff_level: TiffLevel) -> bool:
        """Whether some tiles give the same pixels both ways; for damaged ones others are taken."""
        downsample = self.level_downsamples[level]
        whole = downsample == round(downsample)
        order = np.argsort(tiff_level.nbytes, kind="stable")
        order = order[tiff_level.nbytes[order] > 0]
        if not len(order):
            return False
        agreed = 0
        for quantile in CHECKED if whole else (0.0,):
            start = int(quantile * (len(order) - 1))
            # Only the first pixel of a level whose downsample is no whole number can be addressed in OpenSlide.
            for tile in order[start : start + 3] if whole else [0]:
                row, column = divmod(int(tile), tiff_level.across)
                x, y = column * tiff_level.tile_w, row * tiff_level.tile_h
                # Across the border to the next tile, so that a shift of one against the other shows.
                x = max(0, x - _CHECK_PX // 2) if whole else x
                size = min(_CHECK_PX, tiff_level.width_px - x), min(_CHECK_PX, tiff_level.height_px - y)
                try:
                    if self._recorded_in_part(tiff_level, x, y, *size):
                        continue
                    ours_HWC = self._assemble(level, tiff_level, x, y, *size)
                    theirs_HWC = super().read(level, round(x * downsample), round(y * downsample), *size)
                except SlideRefused:
                    continue
                if not np.array_equal(ours_HWC, theirs_HWC):
                    return False
                agreed += 1
                break
        return agreed > 0

    def _recorded_in_part(self, tiff_level: TiffLevel, x: int, y: int, width_px: int, height_px: int) -> bool:
        """Whether the file leaves out some tile of the region: what stands in for it is OpenSlide's business."""
        rows, columns = _tiles(tiff_level, x, y, width_px, height_px)
        table_RC = tiff_level.nbytes.reshape(tiff_level.down, tiff_level.across)
        return bool((table_RC[rows.start : rows.stop, columns.start : columns.stop] == 0).any())

    def _assemble(
        self, level: int, tiff_level: TiffLevel, x: int, y: int, width_px: int, height_px: int
    ) -> NDArray[np.uint8]:
        """The region from decoded tiles, white outside the level. Raises `DamagedPixels`."""
        require_readable((width_px, height_px), (tiff_level.tile_w, tiff_level.tile_h), self.path.name)
        self.empty_HW = None
        rows, columns = _tiles(tiff_level, x, y, width_px, height_px)
        cache = self._cache(level, tiff_level, len(rows) + 1)
        out_HWC = np.empty((height_px, width_px, 3), np.uint8)
        right, bottom = min(x + width_px, tiff_level.width_px), min(y + height_px, tiff_level.height_px)
        if x < 0 or y < 0 or right < x + width_px or bottom < y + height_px:
            out_HWC.fill(255)
        if right <= max(0, x) or bottom <= max(0, y):
            return out_HWC
        for row in rows:
            y0 = row * tiff_level.tile_h
            top, end = max(y, y0), min(bottom, y0 + tiff_level.tile_h)
            for column in columns:
                x0 = column * tiff_level.tile_w
                left, stop = max(x, x0), min(right, x0 + tiff_level.tile_w)
                tile_HWC = self._decoded(cache, tiff_level, row * tiff_level.across + column)
                out_HWC[top - y : end - y, left - x : stop - x] = tile_HWC[top - y0 : end - y0, left - x0 : stop - x0]
        return out_HWC

    def _decoded(self, cache: _Cache, tiff_level: TiffLevel, tile: int) -> NDArray[np.uint8]:
        slot = cache.slots.get(tile)
        if slot is None:
            full = len(cache.slots) >= cache.most
            slot = cache.slots.popitem(last=False)[1] if full else len(cache.slots)
            assert self._tiff is not None
            try:
                self._tiff.decode(tiff_level, tile, cache.slots_SHWC[slot])
            except DamagedTile as error:
                # The slot stays with a tile number that does not exist, so that the slots remain as many as they are.
                cache.slots[-1 - slot] = slot
                raise self._damaged(error, tile) from None
            cache.slots[tile] = slot
        else:
            cache.slots.move_to_end(tile)
        tile_HWC: NDArray[np.uint8] = cache.slots_SHWC[slot]
        return tile_HWC

    def _cache(self, level: int, tiff_level: TiffLevel, rows: int) -> _Cache:
        """The level's cache, of so many rows of tiles; one at a time, since levels are read one after the other.

        It is no larger than a grid's row needs, which leaves it in the processor's own caches and its memory in use.
        """
        shape = (tiff_level.tile_h, tiff_level.tile_w, 3)
        limit = max(1, min(self.cache_nbytes // int(np.prod(shape)), len(tiff_level.nbytes)))
        if self._cached is None or self._cached[0] != level:
            self._cached = None
            self._cached = level, _Cache(np.empty((limit, *shape), np.uint8), OrderedDict(), 1)
        cache = self._cached[1]
        cache.most = max(cache.most, min(limit, rows * tiff_level.across))
        return cache

    def _damaged(self, error: object, tile: int) -> DamagedPixels:
        return DamagedPixels(f"pixels cannot be decoded: tile {tile}: {error}", where=self.path.name, fix=DAMAGED_FIX)


def _tiles(tiff_level: TiffLevel, x: int, y: int, width_px: int, height_px: int) -> tuple[range, range]:
    """Rows and columns of the tiles that a region touches."""
    rows = range(max(0, y) // tiff_level.tile_h, min(tiff_level.down, -(-(y + height_px) // tiff_level.tile_h)))
    columns = range(max(0, x) // tiff_level.tile_w, min(tiff_level.across, -(-(x + width_px) // tiff_level.tile_w)))
    return rows, columns
