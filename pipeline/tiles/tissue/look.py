"""A whole slide, small: the picture from which its tissue is found, and the mask.

Legend: H, W, C = height, width, RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.params.tiles import TilesParams
from pipeline.slides.read.reader import SlideReader
from pipeline.tiles.pictures import THUMB_PX
from pipeline.tiles.pixels import resize
from pipeline.tiles.tissue import TissueMask, find_tissue
from pipeline.tiles.tissue.own_mask import fits_both, load_mask

ALL = 0.95
"""Share of a slide that a mask marks, from which on it is next to all of it."""
MAX_LOOK_PX = 16_000_000
"""Pixels of the picture of a whole slide: 1000 mm2 at 8 um a pixel."""


@dataclass(frozen=True)
class Look:
    """A whole slide, small: `picture_HWC` for people, `small_HWC` at `mpp_xy`, which the mask is of; its own mask."""

    picture_HWC: NDArray[np.uint8]
    small_HWC: NDArray[np.uint8]
    mpp_xy: tuple[float, float]
    own_HW: NDArray[np.bool_] | None
    mask: TissueMask
    marks_all: bool
    """Its own mask marks next to all that was scanned."""
    fits_both: bool = False
    """Its own mask is taken for one of the whole slide, and may be of what was scanned alone."""


def look(reader: SlideReader, params: TilesParams, own_mask: Path | None = None, max_px: int = MAX_LOOK_PX) -> Look:
    """A small picture of the whole slide, and the mask at `mask_mpp` (or the slide's own mpp, if coarser).

    One reading serves both: a slide without a pyramid is read whole for it. Where the picture would have more than
    `max_px` pixels, it and the mask are coarser: a mask takes 40 bytes a pixel.
    """
    mpp_x, mpp_y = reader.mpp_xy
    width = max(1, round(reader.width_px * min(1.0, mpp_x / params.tissue.mask_mpp)))
    height = max(1, round(reader.height_px * min(1.0, mpp_y / params.tissue.mask_mpp)))
    longer_l0, shorter_l0 = max(reader.width_px, reader.height_px), min(reader.width_px, reader.height_px)
    most = int((max_px * longer_l0 / shorter_l0) ** 0.5)
    picture_HWC = reader.thumbnail(min(most, max(THUMB_PX, width, height)))
    # Where pixels are not square, the picture may be coarser than the mask along one axis.
    width, height = min(width, picture_HWC.shape[1]), min(height, picture_HWC.shape[0])
    small_HWC = resize(picture_HWC, (width, height), resample=Image.Resampling.BOX)
    mpp_xy = (mpp_x * reader.width_px / width, mpp_y * reader.height_px / height)
    slide_l0 = (reader.width_px, reader.height_px)
    own_HW = load_mask(own_mask, slide_l0, (width, height), reader.bounds) if own_mask else None
    mask = find_tissue(small_HWC, mpp_xy, params.tissue, own_HW)
    marks_all = False
    if own_HW is not None:
        _, _, scanned_x, scanned_y = reader.bounds or (0, 0, *slide_l0)
        marks_all = float(own_HW.mean()) >= ALL * scanned_x * scanned_y / (slide_l0[0] * slide_l0[1])
    both = own_mask is not None and fits_both(own_mask, slide_l0, reader.bounds)
    return Look(picture_HWC, small_HWC, mpp_xy, own_HW, mask, marks_all, both)
