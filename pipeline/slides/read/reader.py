"""Pixels and metadata of one whole-slide file. The only file that imports openslide.

Levels count from 0 (full resolution). Positions are always in level-0 pixels, sizes in pixels of the level read, as in
OpenSlide itself. After an OpenSlide error its handle is dead, so the next read opens the file again: one damaged tile
does not cost the rest of the slide. `direct.py` has the other implementation of the same few methods.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from pipeline.base.errors import SlideRefused
from pipeline.slides.mpp import resolve_mpp
from pipeline.slides.read.given import require_content, require_given
from pipeline.slides.read.levels import is_reduced, require_readable
from pipeline.slides.read.tiff import Wrong, find_wrong
from pipeline.slides.table import Mpp

CACHE_NBYTES = 64 << 20
"""Decoded source tiles kept per handle: two rows of 512 px tiles of a wide slide, so that raster order pays."""
DAMAGED_FIX = "the file is damaged: copy it again from the scanner or the archive"
TIFF_VENDORS = ("generic-tiff", "aperio")
"""Formats in which a level is one page and its tiles lie side by side; others overlap, shift or leave tiles out."""
_NO_LEVELS = "No pyramid levels"
"""OpenSlide's words for a DICOM series without a level: its label, or an overview, by itself."""
_BLOCK_PX = 2048
_FINEST_PX, _MAX_FAILED = 16, 150
"""Parts of a thumbnail that do not decode are not looked at more closely than this, nor after so many of them."""


class DamagedPixels(SlideRefused):
    """Some pixels of a slide do not decode; others may."""


class SlideReader:
    """An open slide; a context manager. Open one a worker: the handle and its cache do not pickle.

    `mpp` is the table's resolution (um per level-0 pixel; see `Mpp`), for slides that do not state theirs. Raises
    `SlideRefused` where the file does not open or no believable resolution is known.
    """

    def __init__(self, path: Path, mpp: Mpp = None) -> None:
        self.path = path
        self.unseen: list[tuple[float, float, float, float]] = []
        """Parts of the last thumbnail that did not decode: x0, y0, x1, y1 as fractions of the width and height."""
        self.empty_HW: NDArray[np.bool_] | None = None
        """Which pixels of the last read the file leaves out (shown white); None where it has them all."""
        self._failed = 0
        try:
            self._slide = openslide.OpenSlide(str(path))
        except (openslide.OpenSlideError, OSError) as error:
            require_given([path], whole=False)
            require_content(path)
            fix = "is the copy complete? is the format one OpenSlide reads?"
            if _NO_LEVELS in str(error):
                fix = (
                    "leave it out: it is the label or an overview of a slide, or copy the rest of its series beside it"
                )
            what = f"OpenSlide does not open it: {str(error).rstrip('.')}"
            raise SlideRefused(what, where=path.name, fix=fix) from None
        try:
            with self._errors():
                self._slide.set_cache(openslide.OpenSlideCache(CACHE_NBYTES))
                self._dead = False
                self.level_dimensions: list[tuple[int, int]] = [(w, h) for w, h in self._slide.level_dimensions]
                self.level_downsamples = [float(downsample) for downsample in self._slide.level_downsamples]
                properties = {str(key): str(value) for key, value in self._slide.properties.items()}
            self.vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
            self.quickhash = properties.get(openslide.PROPERTY_NAME_QUICKHASH1)
            wrong = find_wrong(path, self.level_dimensions) if self.vendor in TIFF_VENDORS else Wrong()
            if wrong.lie is not None:
                raise SlideRefused(f"it lies about its size: {wrong.lie}", where=path.name, fix=DAMAGED_FIX)
            if wrong.larger is not None:
                fix = "write it again with its largest page first, or leave it out"
                raise SlideRefused(wrong.larger, where=path.name, fix=fix)
            self.odd = wrong.odd
            """How its tiles are decoded where its tags do not say what is usual; see `Wrong`."""
            self.mpp_xy, self.mpp_from = resolve_mpp(properties, mpp, path.name, self.level_dimensions[0])
            self.bounds = _bounds(properties)
            """x, y, width, height of the scanned part, level-0 px, where the file names one: QuPath counts from it."""
            self.own_levels = tuple(zip(self.level_dimensions, self.level_downsamples, strict=True))
            """((width, height), downsample) of each level that the file has, whatever levels a reader adds to them."""
            self._own_tile_px = _own_tiles(properties, len(self.level_dimensions))
        except BaseException:
            self._slide.close()
            raise

    @property
    def width_px(self) -> int:
        return self.level_dimensions[0][0]

    @property
    def height_px(self) -> int:
        return self.level_dimensions[0][1]

    @property
    def method(self) -> str:
        """What decodes the pixels, and why."""
        return "openslide"

    def exact(self, level: int) -> bool:
        """Whether every pixel of the level can be addressed; else `read` blends neighbours, differently by position."""
        return self.level_downsamples[level] == round(self.level_downsamples[level])

    def own(self, level: int) -> tuple[int, int]:
        """The file's own level that a level is read from, and by what it is reduced in decoding (1: not at all)."""
        return level, 1

    def stored_tile(self, level: int, x: int, y: int, side_px: int) -> bytes | None:
        """The slide's own JPEG of the square at pixel (x, y) of `level`, where the reader can hand it out."""
        return None

    def read(self, level: int, x_l0: int, y_l0: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
        """RGB (height_px, width_px, 3) uint8 of `level`, top left at level-0 (x_l0, y_l0); outside the slide is white.

        Raises `DamagedPixels` where they cannot be decoded; other regions may still be read. Raises `SlideRefused`
        where that would take more memory than a worker has for it.
        """
        require_readable((width_px, height_px), self._own_tile_px[self.own(level)[0]], self.path.name)
        with self._errors():
            if self._dead:
                # Opened before the other is closed: the file may be gone, and `close` takes a handle once.
                fresh = openslide.OpenSlide(str(self.path))
                fresh.set_cache(openslide.OpenSlideCache(CACHE_NBYTES))
                self._slide.close()
                self._slide = fresh
                self._dead = False
            rgba = np.asarray(self._slide.read_region((x_l0, y_l0), level, (width_px, height_px)))
        rgb_HWC, alpha_HW1 = rgba[..., :3], rgba[..., 3:]
        self.empty_HW = None
        if alpha_HW1.min(initial=255) == 255:
            return np.ascontiguousarray(rgb_HWC)
        self.empty_HW = alpha_HW1[..., 0] == 0
        blended_HWC = np.empty(rgb_HWC.shape, np.uint8)
        # Row after row, since whole pictures of 16-bit products would take several times the memory of the read.
        for row in range(height_px):
            alpha = alpha_HW1[row].astype(np.uint16)
            blended_HWC[row] = (rgb_HWC[row] * alpha + 255 * (255 - alpha) + 127) // 255
        return blended_HWC

    def thumbnail(self, max_px: int) -> NDArray[np.uint8]:
        """The whole slide as RGB (h, w, 3) uint8, its longer side at most `max_px`; never enlarged.

        Reads the nearest finer level block by block, so a slide without a pyramid does not have to fit in memory. What
        does not decode is left white, and `unseen` then says where it is. Raises `DamagedPixels` where nothing does.
        """
        scale = max(1.0, max(self.level_dimensions[0]) / max_px)
        width, height = (max(1, round(side / scale)) for side in self.level_dimensions[0])
        finer = [
            i
            for i, (size, downsample) in enumerate(zip(self.level_dimensions, self.level_downsamples, strict=True))
            if i == 0 or (downsample <= scale * 1.001 and is_reduced(self.level_dimensions[0], size))
        ]
        level = max(finer, key=lambda i: self.level_downsamples[i])
        level_height = self.level_dimensions[level][1]
        thumb_HWC = np.full((height, width, 3), 255, np.uint8)
        self.unseen, self._failed = [], 0
        step = max(1, int(_BLOCK_PX * height / level_height))
        for top in range(0, height, step):
            bottom = min(height, top + step)
            for left in range(0, width, step):
                self._fill(thumb_HWC, level, left, top, min(width, left + step), bottom)
        if sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in self.unseen) > 0.99:
            raise DamagedPixels(f"nothing of level {level} can be decoded", where=self.path.name, fix=DAMAGED_FIX)
        return thumb_HWC

    def _fill(self, thumb_HWC: NDArray[np.uint8], level: int, left: int, top: int, right: int, bottom: int) -> None:
        """Part of a thumbnail, in its pixels; by quarters where some of it does not decode."""
        height, width = thumb_HWC.shape[:2]
        (level_width, level_height), downsample = self.level_dimensions[level], self.level_downsamples[level]
        # The box in pixels of the level is fractional; a box filter reads nothing outside it: no seams.
        x0, x1 = left * level_width / width, right * level_width / width
        y0, y1 = top * level_height / height, bottom * level_height / height
        x, y = int(x0), int(y0)
        w, h = math.ceil(x1 - 1e-6) - x, math.ceil(y1 - 1e-6) - y
        try:
            block_HWC = self.read(level, round(x * downsample), round(y * downsample), w, h)
        except DamagedPixels:
            self._failed += 1
            if max(right - left, bottom - top) <= _FINEST_PX or self._failed > _MAX_FAILED:
                self.unseen.append((left / width, top / height, right / width, bottom / height))
                return
            xs, ys = sorted({left, (left + right) // 2, right}), sorted({top, (top + bottom) // 2, bottom})
            for upper, lower in itertools.pairwise(ys):
                for begin, end in itertools.pairwise(xs):
                    self._fill(thumb_HWC, level, begin, upper, end, lower)
            return
        block, size = Image.fromarray(block_HWC), (right - left, bottom - top)
        if (w, h) == (size[0] * (w // size[0]), size[1] * (h // size[1])) and (x, y) == (x0, y0):
            # The same means, over whole pixels, five times as fast.
            small = block.reduce((w // size[0], h // size[1]))
        else:
            box = (x0 - x, y0 - y, min(w, x1 - x), min(h, y1 - y))
            small = block.resize(size, Image.Resampling.BOX, box=box)
        thumb_HWC[top:bottom, left:right] = np.asarray(small)

    def close(self) -> None:
        self._slide.close()

    def __enter__(self) -> SlideReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (openslide.OpenSlideError, OSError) as error:
            self._dead = True
            raise DamagedPixels(f"pixels cannot be decoded: {error}", where=self.path.name, fix=DAMAGED_FIX) from None


def detect_vendor(path: Path) -> str | None:
    """The format OpenSlide recognises the file as, or None. Looks at metadata only."""
    vendor = openslide.OpenSlide.detect_format(str(path))
    return None if vendor is None else str(vendor)


def _own_tiles(properties: Mapping[str, str], n_levels: int) -> list[tuple[int, int]]:
    """Width and height of the tiles of so many levels; (0, 0) where OpenSlide does not say."""
    names = [f"openslide.level[{level}].tile-" for level in range(n_levels)]
    return [(int(properties.get(f"{name}width", 0)), int(properties.get(f"{name}height", 0))) for name in names]


def _bounds(properties: Mapping[str, str]) -> tuple[int, int, int, int] | None:
    names = ("bounds-x", "bounds-y", "bounds-width", "bounds-height")
    try:
        x, y, width, height = (int(properties[f"openslide.{name}"]) for name in names)
    except (KeyError, ValueError):
        return None
    return x, y, width, height
