"""What light a picture was taken in: stain is told on bright glass, by its colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.tiles.opencv import cv2
from pipeline.tiles.tissue.otsu import calm, darkest_and_brightest, saturation

DARK, BRIGHT = 60, 150
"""Brightest channel (of 255) of a dark background; darkest channel of what can be glass, or pale tissue."""
MUCH_DARK, SOME_BRIGHT = 0.3, 0.01
"""Shares of the picture. Black where nothing was scanned is no dark field: there is glass beside it."""
EVEN = 6
"""Levels of green by which the parts of empty glass differ."""
NO_COLOUR, FAINT = 0.02, 0.012
"""Saturation that a picture without colour stays below; and by how much faint stain differs from glass."""


def dark_field(rgb_HWC: NDArray[np.uint8]) -> bool:
    """Whether the background is dark, as in fluorescence and dark field."""
    darkest_HW, brightest_HW = darkest_and_brightest(rgb_HWC)
    dark, bright = float((brightest_HW < DARK).mean()), float((darkest_HW > BRIGHT).mean())
    return dark > MUCH_DARK and bright < SOME_BRIGHT


def even(rgb_HWC: NDArray[np.uint8]) -> bool:
    """Whether there is nothing on it, light or dark: empty glass."""
    low, high = np.percentile(cv2.blur(np.ascontiguousarray(rgb_HWC[..., 1]), (9, 9)), [2, 98])
    return bool(high - low < EVEN)


def without_colour(rgb_HWC: NDArray[np.uint8]) -> bool:
    """Whether it is grey, or next to it."""
    return float(np.percentile(calm(saturation(rgb_HWC)), 99)) < NO_COLOUR


def faint_stain(rgb_HWC: NDArray[np.uint8]) -> bool:
    """Whether something in the picture has a little more colour than the rest of it: of single pixels that is noise."""
    even_HW = cv2.blur(calm(saturation(rgb_HWC)), (9, 9))
    low, high = np.percentile(even_HW, [2, 98])
    return bool(high - low >= FAINT)
