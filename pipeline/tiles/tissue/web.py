"""Fat, which saturation cannot find: its cells are empty, and the membranes between them take hardly any stain.

At 8 um a pixel the membranes still show, as thin pink lines that hang together. So a second cue looks for lines (a
top-hat of the green channel and of the saturation, both above the noise of this slide's glass), keeps those that hang
together over more than a cell, and fills a place where they are dense. What is found must adjoin stained tissue. Each
condition keeps something out: colour dust and the steps between scanned fields, connection noise and specks, density
single fibres and scratches, and the neighbourhood whatever lies on the glass by itself.

Scales are those of fat: cells of 50 to 120 um, membranes of a few um.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.base.types import Array
from pipeline.tiles.opencv import cv2
from pipeline.tiles.tissue.otsu import saturation
from pipeline.tiles.tissue.shape import drop_small, touching

COARSEST_MPP = 12.0
"""Above it a membrane is less than a fifth of a pixel, and nothing of it is left."""
LINE_UM = 24.0
"""A line is thinner than twice this."""
MIN_DARKER, MIN_STAIN = 4.0, 3.0
"""How much darker (levels of green of 255) and more saturated (255ths) than its surroundings a line is."""
NOISES = 3.0
"""And so many times the median of the same on this slide's glass."""
MIN_LINE_UM2 = 2500.0
"""Area of lines that hang together: more than one cell's outline."""
MIN_DENSITY, DENSITY_UM = 0.2, 120.0
"""Share of lines in a square of that side; a web of 70 um cells has about 0.4 at 8 um a pixel, one line 0.1."""
CLOSE_UM, OPEN_UM = 44.0, 32.0
"""Cells up to twice the first are filled; places narrower than twice the second are no fat."""


def web(
    rgb_HWC: NDArray[np.uint8],
    tissue_HW: NDArray[np.bool_],
    pen_HW: NDArray[np.bool_],
    mpp: float,
    min_px: float,
) -> NDArray[np.bool_]:
    """What to add to the tissue, (H, W) bool; `mpp` um per pixel, parts of fewer than `min_px` / 2 pixels left out."""
    nothing_HW = np.zeros_like(tissue_HW)
    if mpp > COARSEST_MPP or not tissue_HW.any():
        return nothing_HW
    glass_HW = ~_wider(tissue_HW | pen_HW, LINE_UM, mpp)
    if not glass_HW.any():
        return nothing_HW
    green_HW, stain_HW = rgb_HWC[..., 1], saturation(rgb_HWC) * 255
    darker_HW = _narrower(_wider(green_HW, LINE_UM, mpp), LINE_UM, mpp) - green_HW
    pinker_HW = stain_HW - _wider(_narrower(stain_HW, LINE_UM, mpp), LINE_UM, mpp)
    line_HW = darker_HW >= max(MIN_DARKER, NOISES * _median(darker_HW, glass_HW))
    line_HW &= pinker_HW >= max(MIN_STAIN, NOISES * _median(pinker_HW, glass_HW))
    line_HW = drop_small(line_HW & ~pen_HW, MIN_LINE_UM2 / mpp**2, diagonal=True)

    side = max(1, round(DENSITY_UM / mpp))
    lines_HW = density(line_HW & ~tissue_HW, side)
    free_HW = density(~tissue_HW, side)
    dense_HW = (lines_HW >= MIN_DENSITY * np.maximum(free_HW, 1e-3)) & ~(tissue_HW | pen_HW)
    if not dense_HW.any():
        return nothing_HW
    filled_HW = _narrower(_wider(line_HW | tissue_HW, CLOSE_UM, mpp), CLOSE_UM, mpp)
    whole_HW = (filled_HW & dense_HW) | tissue_HW
    broad_HW = whole_HW & _wider(_narrower(whole_HW, OPEN_UM, mpp), OPEN_UM, mpp) & ~pen_HW
    return drop_small(touching(broad_HW | tissue_HW, tissue_HW) & ~tissue_HW, min_px / 2)


def density(mask_HW: NDArray[np.bool_], side: int) -> NDArray[np.float32]:
    """Share of the mask in a square of so many pixels around each pixel, (H, W); beyond the border it is mirrored.

    To the bit `scipy.ndimage.uniform_filter` of floats, whose import takes longer than a small slide: down, rounded,
    then across.
    """
    mirrored = cv2.BORDER_REFLECT
    down_HW = cv2.boxFilter(mask_HW.view(np.uint8), cv2.CV_32F, (1, side), normalize=False, borderType=mirrored)
    share_HW = (down_HW.astype(np.float64) / side).astype(np.float32)
    sum_HW = cv2.boxFilter(share_HW, cv2.CV_64F, (side, 1), normalize=False, borderType=mirrored)
    density_HW: NDArray[np.float32] = (sum_HW / side).astype(np.float32)
    return density_HW


def _median(value_HW: Array, where_HW: NDArray[np.bool_]) -> float:
    """Of a sample: every third row, unless that misses the glass."""
    sample = value_HW[::3][where_HW[::3]]
    return float(np.median(sample if len(sample) else value_HW[where_HW]))


def _wider(picture_HW: Array, by_um: float, mpp: float) -> Array:
    """The largest value within a square that reaches so far; beyond the border its pixels go on."""
    return _extreme(cv2.dilate, picture_HW, by_um / mpp)


def _narrower(picture_HW: Array, by_um: float, mpp: float) -> Array:
    """The smallest value within a square that reaches so far."""
    return _extreme(cv2.erode, picture_HW, by_um / mpp)


def _extreme(of: Callable[..., Array], picture_HW: Array, by_px: float) -> Array:
    """Of a picture of any type, in a square that reaches so many pixels, at least one."""
    side = 2 * max(1, round(by_px)) + 1
    found_HW = of(
        picture_HW.view(np.uint8) if picture_HW.dtype == bool else picture_HW, np.ones((side, side), np.uint8)
    )
    return found_HW.view(picture_HW.dtype)
