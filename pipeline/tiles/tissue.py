"""Tissue against glass, on a low-resolution picture of the slide, and how much of each tile is tissue.

Stain is colour and glass is grey, so the saturation of HSV separates them; Otsu's threshold (IEEE Trans. SMC 9, 1979)
finds the valley. Otsu always finds one, in noise too, so the threshold is kept within bounds that hold for every stain
seen, and a picture in which nothing stands out has no tissue.

Legend: H, W = height and width of the mask; N = tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.params import TissueParams

THRESHOLD_RANGE = (0.06, 0.15)
"""Saturation: glass has been seen up to 0.05, the palest tissue (fat, oedema) from 0.15 on."""
MIN_CONTRAST = 0.06
"""Mean saturation of tissue less that of glass; tinted empty glass stays below."""
DARKEST = 40
"""Brightest channel (of 255): below it there is no light to have a colour, and saturation is noise."""
PEN_MARGIN_UM = 24.0
"""Ink bleeds into pale edges that look like stain: this much around a pen mark goes too."""
_SMOOTH_UM = 16.0


@dataclass(frozen=True)
class TissueMask:
    """`tissue` and `pen`, (H, W) bool; `area_mm2` of the tissue; `threshold` of saturation that was used."""

    tissue: NDArray[np.bool_]
    pen: NDArray[np.bool_]
    area_mm2: float
    threshold: float


def find_tissue(rgb_HWC: NDArray[np.uint8], mpp_xy: tuple[float, float], params: TissueParams) -> TissueMask:
    """The tissue in a picture of the whole slide, (H, W, 3) uint8 at `mpp_xy` um per picture pixel."""
    pixel_mm2 = mpp_xy[0] * mpp_xy[1] / 1e6
    min_px = params.min_area_mm2 / pixel_mm2
    smooth = max(1, round(_SMOOTH_UM / max(mpp_xy)))
    saturation_HW = ndimage.median_filter(saturation(rgb_HWC), size=3)
    threshold = tissue_threshold(saturation_HW)
    raw_HW = (saturation_HW >= threshold) & (rgb_HWC.max(-1) >= DARKEST)
    pen_HW = np.zeros_like(raw_HW)
    if params.exclude_pen:
        pen_HW = drop_small(pen_marks(rgb_HWC), min_px)
        pen_HW = ndimage.binary_dilation(pen_HW, iterations=max(1, round(PEN_MARGIN_UM / max(mpp_xy))))
        raw_HW &= ~pen_HW
    # Beyond the picture's border the tissue is taken to go on as it is, else both steps would eat into the border.
    closed_HW = ndimage.binary_erosion(
        ndimage.binary_dilation(raw_HW, iterations=smooth), iterations=smooth, border_value=1
    )
    opened_HW = ndimage.binary_dilation(ndimage.binary_erosion(closed_HW, border_value=1))
    filled_HW = ~drop_small(~(opened_HW & closed_HW), min_px)
    tissue_HW = drop_small(filled_HW & ~pen_HW, min_px)
    return TissueMask(tissue_HW, pen_HW, float(tissue_HW.sum() * pixel_mm2), threshold)


def saturation(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(max - min) / max of each pixel's channels, (H, W) float32 in 0-1."""
    high_HW = rgb_HWC.max(-1).astype(np.float32)
    low_HW = rgb_HWC.min(-1).astype(np.float32)
    saturation_HW: NDArray[np.float32] = (high_HW - low_HW) / np.maximum(high_HW, 1)
    return saturation_HW


def tissue_threshold(saturation_HW: NDArray[np.float32]) -> float:
    """Otsu's threshold within `THRESHOLD_RANGE`; above 1 (so that nothing passes) where nothing stands out."""
    valley = otsu(saturation_HW)
    low, high = saturation_HW[saturation_HW < valley], saturation_HW[saturation_HW >= valley]
    glass, stain = (float(part.mean()) if part.size else 0.0 for part in (low, high))
    all_tissue = glass >= THRESHOLD_RANGE[1]
    if stain - glass < MIN_CONTRAST and not all_tissue:
        return 2.0
    return float(np.clip(valley, *THRESHOLD_RANGE))


def otsu(values: NDArray[np.float32], bins: int = 256) -> float:
    """The threshold in 0-1 that maximises the variance between the two classes it makes."""
    counts, edges = np.histogram(values, bins, (0.0, 1.0))
    share = counts.cumsum() / counts.sum()
    mass = (counts * (edges[:-1] + edges[1:]) / 2).cumsum() / counts.sum()
    spread = share * (1 - share)
    between = np.where(spread > 0, (mass[-1] * share - mass) ** 2 / np.maximum(spread, 1e-12), 0.0)
    return float(edges[int(between.argmax()) + 1])


def pen_marks(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Colours that H&E does not have, (H, W) bool: blue and green, saturated red, and black.

    Haematoxylin and eosin both absorb green most, so green never clearly exceeds red: ink does. Where ink lies over
    tissue, green exceeds red by little, but next to no red is left beside the blue.
    """
    red_HW, green_HW, blue_HW = (rgb_HWC[..., c].astype(np.int16) for c in range(3))
    high_HW, low_HW = rgb_HWC.max(-1).astype(np.int16), rgb_HWC.min(-1).astype(np.int16)
    blue_or_green_HW = (green_HW - red_HW > 20) | ((green_HW > red_HW) & (2 * red_HW < blue_HW))
    # Eosin and blood stay below 70 % saturation at this resolution; red ink has hardly any green or blue at all.
    red_ink_HW = (red_HW > 110) & (np.maximum(green_HW, blue_HW) < 0.28 * red_HW)
    black_HW = (high_HW < 75) & (high_HW - low_HW < 0.35 * high_HW)
    ink_HW: NDArray[np.bool_] = blue_or_green_HW | red_ink_HW | black_HW
    return ink_HW


def drop_small(mask_HW: NDArray[np.bool_], min_px: float) -> NDArray[np.bool_]:
    """The mask without its connected parts (4-neighbours) of fewer than `min_px` pixels."""
    labels_HW, _ = ndimage.label(mask_HW)
    keep = np.bincount(labels_HW.ravel()) >= min_px
    keep[0] = False
    kept_HW: NDArray[np.bool_] = keep[labels_HW]
    return kept_HW


def coverage(mask_HW: NDArray[np.bool_], box_N4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each box that is set, (N,) in 0-1; boxes are x0, y0, x1, y1 in fractional mask pixels, within it.

    From an integral image, and exact: within a mask pixel the integral is bilinear, so it may be read between pixels.
    """
    integral = np.zeros((mask_HW.shape[0] + 1, mask_HW.shape[1] + 1))
    integral[1:, 1:] = mask_HW.cumsum(0, dtype=np.int64).cumsum(1)

    def upto(x_N: NDArray[np.float64], y_N: NDArray[np.float64]) -> NDArray[np.float64]:
        values_N: NDArray[np.float64] = ndimage.map_coordinates(integral, [y_N, x_N], order=1, mode="nearest")
        return values_N

    x0_N, y0_N, x1_N, y1_N = box_N4.T
    inside_N = upto(x1_N, y1_N) - upto(x0_N, y1_N) - upto(x1_N, y0_N) + upto(x0_N, y0_N)
    share_N: NDArray[np.float64] = np.clip(inside_N / ((x1_N - x0_N) * (y1_N - y0_N)), 0.0, 1.0)
    return share_N
