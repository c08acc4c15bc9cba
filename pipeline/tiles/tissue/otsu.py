"""Method `otsu`: stain is colour and glass is grey, so the saturation of HSV separates them.

Otsu's threshold (IEEE Trans. SMC 9, 1979) finds the valley between the two. Otsu always finds one, in noise too, so the
threshold is kept within bounds that hold for every stain seen, and a picture in which nothing stands out has no tissue.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.tiles.opencv import cv2

THRESHOLD_RANGE = (0.06, 0.15)
"""Saturation: glass has been seen up to 0.05, the palest tissue (oedema) from 0.15 on."""
MIN_CONTRAST = 0.06
"""Mean saturation of tissue less that of glass; tinted empty glass stays below."""
DARKEST = 40
"""Brightest channel (of 255): below it there is no light to have a colour, and saturation is noise."""
NOTHING = 2.0
"""A threshold that no saturation reaches."""


def stained_by_otsu(rgb_HWC: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], float]:
    """Which pixels are stained, (H, W) bool, and the threshold of saturation."""
    saturation_HW = calm(saturation(rgb_HWC))
    threshold = tissue_threshold(saturation_HW)
    return (saturation_HW >= threshold) & (darkest_and_brightest(rgb_HWC)[1] >= DARKEST), threshold


def saturation(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(max - min) / max of each pixel's channels, (H, W) float32 in 0-1."""
    low_HW, high_HW = (bound_HW.astype(np.float32) for bound_HW in darkest_and_brightest(rgb_HWC))
    return ((high_HW - low_HW) / np.maximum(high_HW, 1)).astype(np.float32, copy=False)


def calm(saturation_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """The median of each 3 x 3 pixels, in steps of 1/255; beyond the border its pixels go on."""
    median_HW: NDArray[np.uint8] = cv2.medianBlur(_levels(saturation_HW), 3)
    return median_HW.astype(np.float32) * np.float32(1 / 255)


def darkest_and_brightest(rgb_HWC: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Each pixel's least and greatest channel, (H, W) uint8 both; numpy is slow at reducing an axis of three."""
    red_HW, green_HW, blue_HW = (rgb_HWC[..., c] for c in range(3))
    low_HW = np.minimum(np.minimum(red_HW, green_HW), blue_HW)
    return low_HW, np.maximum(np.maximum(red_HW, green_HW), blue_HW)


def tissue_threshold(saturation_HW: NDArray[np.float32]) -> float:
    """Otsu's threshold within `THRESHOLD_RANGE`; `NOTHING` where nothing stands out."""
    valley = otsu(saturation_HW)
    low, high = saturation_HW[saturation_HW < valley], saturation_HW[saturation_HW >= valley]
    glass, stain = (float(part.mean()) if part.size else 0.0 for part in (low, high))
    all_tissue = glass >= THRESHOLD_RANGE[1]
    if stain - glass < MIN_CONTRAST and not all_tissue:
        return NOTHING
    return float(np.clip(valley, *THRESHOLD_RANGE))


def otsu(value_HW: NDArray[np.float32]) -> float:
    """The threshold in 0-1, in steps of 1/256, that maximises the variance between the two classes it makes."""
    highest_below, _ = cv2.threshold(_levels(value_HW), 0, 255, cv2.THRESH_OTSU)
    return float(highest_below + 1) / 256


def _levels(value_HW: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Numbers in 0-1 as bytes."""
    return (value_HW * 255 + 0.5).astype(np.uint8)
