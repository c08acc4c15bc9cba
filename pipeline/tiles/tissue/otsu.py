"""Method `otsu`: stain is colour and glass is grey, so the saturation of HSV separates them.

Otsu's threshold (IEEE Trans. SMC 9, 1979) finds the valley between the two. Otsu always finds one, in noise too, so the
threshold is kept within bounds that hold for every stain seen, and a picture in which nothing stands out has no tissue.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

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
    saturation_HW = ndimage.median_filter(saturation(rgb_HWC), size=3)
    threshold = tissue_threshold(saturation_HW)
    return (saturation_HW >= threshold) & (rgb_HWC.max(-1) >= DARKEST), threshold


def saturation(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(max - min) / max of each pixel's channels, (H, W) float32 in 0-1."""
    high_HW = rgb_HWC.max(-1).astype(np.float32)
    low_HW = rgb_HWC.min(-1).astype(np.float32)
    saturation_HW: NDArray[np.float32] = (high_HW - low_HW) / np.maximum(high_HW, 1)
    return saturation_HW


def tissue_threshold(saturation_HW: NDArray[np.float32]) -> float:
    """Otsu's threshold within `THRESHOLD_RANGE`; `NOTHING` where nothing stands out."""
    valley = otsu(saturation_HW)
    low, high = saturation_HW[saturation_HW < valley], saturation_HW[saturation_HW >= valley]
    glass, stain = (float(part.mean()) if part.size else 0.0 for part in (low, high))
    all_tissue = glass >= THRESHOLD_RANGE[1]
    if stain - glass < MIN_CONTRAST and not all_tissue:
        return NOTHING
    return float(np.clip(valley, *THRESHOLD_RANGE))


def otsu(values: NDArray[np.float32], bins: int = 256) -> float:
    """The threshold in 0-1 that maximises the variance between the two classes it makes."""
    counts, edges = np.histogram(values, bins, (0.0, 1.0))
    share = counts.cumsum() / counts.sum()
    mass = (counts * (edges[:-1] + edges[1:]) / 2).cumsum() / counts.sum()
    spread = share * (1 - share)
    between = np.where(spread > 0, (mass[-1] * share - mass) ** 2 / np.maximum(spread, 1e-12), 0.0)
    return float(edges[int(between.argmax()) + 1])
