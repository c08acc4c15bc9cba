"""A slide whose JPEG tiles are also decoded at 1/2, 1/4 and 1/8 of their size, as levels beside its own.

A JPEG's blocks of 8 x 8 DCT coefficients can be turned into 4 x 4, 2 x 2 or one pixel, by the lowest of them: less to
compute and to resize than all pixels. That is another low-pass than any filter's, so it is asked for
(`tiles.reduced_dct`), part of the recipe key, and never chosen by itself; `bench.tokens.reduced_dct` prints what it
does to a teacher's answers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.slides.read.direct import DirectReader
from pipeline.slides.read.tiff import TiffLevel
from pipeline.slides.table import Mpp

SCALES = (2, 4, 8)
"""What a block of 8 x 8 can be reduced by, and still be whole pixels."""
SAME_WITHIN = 0.02
"""A level of the file's own this near to a reduced one is taken instead."""


class ReducedReader(DirectReader):
    """`DirectReader` with reduced levels after the file's own, where a level is of whole JPEG tiles that it decodes.

    With `alone`, all levels but the first are left out, as if the file had no pyramid.
    """

    def __init__(self, path: Path, mpp: Mpp = None, *, alone: bool = False) -> None:
        super().__init__(path, mpp)
        if alone:
            self.level_dimensions, self.level_downsamples = self.level_dimensions[:1], self.level_downsamples[:1]
        self._reduced: dict[int, tuple[int, int, TiffLevel]] = {}
        for own in range(len(self.level_dimensions)):
            tiff_level = super()._direct(own)
            # What stands in for a tile that the file leaves out is OpenSlide's business, at full size only.
            if tiff_level is not None and tiff_level.header is not None and tiff_level.nbytes.all():
                self._add(own, tiff_level)

    def own(self, level: int) -> tuple[int, int]:
        return self._reduced[level][:2] if level in self._reduced else (level, 1)

    def read(self, level: int, x_l0: int, y_l0: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
        if level not in self._reduced:
            return super().read(level, x_l0, y_l0, width_px, height_px)
        downsample = self.level_downsamples[level]
        x, y = round(x_l0 / downsample), round(y_l0 / downsample)
        return self._assemble(level, self._reduced[level][2], x, y, width_px, height_px)

    def stored_tile(self, level: int, x: int, y: int, side_px: int) -> bytes | None:
        return None if level in self._reduced else super().stored_tile(level, x, y, side_px)

    def _add(self, own: int, tiff_level: TiffLevel) -> None:
        """The reduced levels of one of the file's own."""
        for scale in SCALES:
            downsample = scale * self.level_downsamples[own]
            known = any(abs(other / downsample - 1) <= SAME_WITHIN for other in self.level_downsamples)
            size = tiff_level.width_px // scale, tiff_level.height_px // scale
            if known or tiff_level.tile_w % scale or tiff_level.tile_h % scale or min(size) < 1:
                continue
            reduced = replace(
                tiff_level,
                width_px=size[0],
                height_px=size[1],
                tile_w=tiff_level.tile_w // scale,
                tile_h=tiff_level.tile_h // scale,
                dct_scale=scale,
            )
            self._reduced[len(self.level_dimensions)] = own, scale, reduced
            self.level_dimensions.append(size)
            self.level_downsamples.append(downsample)

    def _direct(self, level: int) -> TiffLevel | None:
        return self._reduced[level][2] if level in self._reduced else super()._direct(level)
