"""Method `hsv`: fixed bounds on hue, saturation and value, the same for every slide.

For sets whose stain and scanner are one, where an adaptive threshold only adds variance, and for slides that are nearly
all glass or nearly all tissue. Only the hues of haematoxylin and eosin pass, from blue-violet over magenta to red.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.tiles.tissue.otsu import DARKEST, calm, saturation

MIN_SATURATION = 0.08
HUES = (200.0, 30.0)
"""Degrees on the circle, from the first over 360 to the second."""
BRIGHTEST = 250
"""Smallest channel (of 255): above it a pixel is white, whatever its hue."""


def stained_by_hsv(rgb_HWC: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], float]:
    """Which pixels are stained, (H, W) bool, and the threshold of saturation."""
    saturation_HW = calm(saturation(rgb_HWC))
    hue_HW = hue(rgb_HWC)
    stained_HW = (saturation_HW >= MIN_SATURATION) & ((hue_HW >= HUES[0]) | (hue_HW <= HUES[1]))
    return stained_HW & (rgb_HWC.max(-1) >= DARKEST) & (rgb_HWC.min(-1) < BRIGHTEST), MIN_SATURATION


def hue(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Degrees in 0-360 around the colour circle (red 0, green 120, blue 240), (H, W) float32; 0 where grey."""
    red_HW, green_HW, blue_HW = (rgb_HWC[..., c].astype(np.float32) for c in range(3))
    high_HW = np.maximum(np.maximum(red_HW, green_HW), blue_HW)
    span_HW = np.maximum(high_HW - np.minimum(np.minimum(red_HW, green_HW), blue_HW), 1)
    sixth_HW = np.where(
        high_HW == red_HW,
        (green_HW - blue_HW) / span_HW,
        np.where(high_HW == green_HW, 2 + (blue_HW - red_HW) / span_HW, 4 + (red_HW - green_HW) / span_HW),
    )
    degrees_HW: NDArray[np.float32] = ((60 * sixth_HW) % 360).astype(np.float32)
    return degrees_HW
