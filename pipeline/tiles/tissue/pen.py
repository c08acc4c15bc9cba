"""Ink on the glass: colours that haematoxylin and eosin do not make, unless they are what the tissue is stained with.

Haematoxylin and eosin both absorb green most, so a pixel that is blue, green, saturated red or black is of an ink's
colour. So is collagen in a trichrome, mucin in Alcian blue, and the counterstain of many immunostains. Ink is few,
saturated and even; a stain lies within tissue, or is the tissue. So each connected part of an ink's colour is looked
at, one kind of ink after the other:

    pale    at most half of it is saturated by `SATURATED`: ink only where it stands on glass, and all that is pale of
            the kind is at most `FEW` of what is coloured on the slide
    strong  ink, but for a part that is as uneven as tissue is (`UNEVEN`), lies in tissue, and is one of those that
            together are more than `MUCH` of what is coloured; what is saturated by `PURE` is always ink

Where a kind is more than `MOST` of what is coloured, it is the tissue that other parts would lie in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.tiles.opencv import cv2
from pipeline.tiles.tissue.otsu import darkest_and_brightest, saturation
from pipeline.tiles.tissue.shape import drop_small

SATURATED, PURE = 0.58, 0.75
"""Saturation: blue and green markers have 0.65 to 0.9, aniline blue and Alcian blue 0.3 to 0.7."""
FEW, MUCH, MOST = 0.1, 0.05, 0.5
"""Share of the coloured area of a slide."""
DARKER = 0.2
"""Optical density, summed over the colours, that tissue has at least above this slide's glass."""
WITHIN = 0.5
"""Share of a part's surroundings that is stained, from which on it lies in tissue."""
UNEVEN = 0.02
"""Difference of optical density with the mean of 3 x 3 pixels, over that mean: ink's median is 0.014, tissue's 0.03."""
HALO_PX, SURROUNDINGS_PX = 2, 6
"""Around a part its own pale edge, which says nothing; and so far beyond it lie its surroundings."""
_BRIGHTEST_BLACK = 75
_DENSITY = -np.log(np.arange(1, 257) / 256).astype(np.float32)


@dataclass(frozen=True)
class _Picture:
    """Whether a pixel is glass or not, its saturation, and whether it differs from its neighbours, (H, W) each."""

    coloured_HW: NDArray[np.bool_]
    saturation_HW: NDArray[np.float32]
    uneven_HW: NDArray[np.bool_]


def pen_marks(rgb_HWC: NDArray[np.uint8], stained_HW: NDArray[np.bool_], min_px: float) -> NDArray[np.bool_]:
    """Ink, (H, W) bool, in parts of `min_px` pixels and more; `stained_HW` is what the mask's method found stained."""
    kinds = [drop_small(kind_HW, min_px) for kind_HW in _of_inks_colours(rgb_HWC)]
    ink_HW = np.zeros(rgb_HWC.shape[:2], bool)
    if not any(kind_HW.any() for kind_HW in kinds):
        return ink_HW
    density_HW = _density(rgb_HWC)
    # Pale tissue is less than stained, and darker than glass.
    coloured_HW = stained_HW | (density_HW > np.percentile(density_HW[::3], 5) + DARKER)
    mean_HW = cv2.blur(density_HW, (3, 3))
    uneven_HW = np.abs(density_HW - mean_HW) > UNEVEN * np.maximum(mean_HW, 0.05)
    picture = _Picture(coloured_HW, saturation(rgb_HWC), uneven_HW)
    for kind_HW, pure, is_black in zip(kinds, (PURE, np.inf, np.inf), (False, False, True), strict=True):
        if kind_HW.any():
            ink_HW |= _ink(kind_HW, picture, pure, is_black)
    return ink_HW


def _of_inks_colours(rgb_HWC: NDArray[np.uint8]) -> Iterator[NDArray[np.bool_]]:
    """Blue and green, saturated red, black, (H, W) bool each.

    Green never clearly exceeds red in haematoxylin and eosin: in ink it does. Where ink lies over tissue, green exceeds
    red by little, but next to no red is left beside the blue.
    """
    red_HW, green_HW, blue_HW = (rgb_HWC[..., c].astype(np.int16) for c in range(3))
    low_HW, high_HW = (bound_HW.astype(np.int16) for bound_HW in darkest_and_brightest(rgb_HWC))
    yield (green_HW - red_HW > 20) | ((green_HW > red_HW) & (2 * red_HW < blue_HW))
    # Eosin and blood stay below 70 % saturation at this resolution; red ink has hardly any green or blue at all.
    yield (red_HW > 110) & (np.maximum(green_HW, blue_HW) < 0.28 * red_HW)
    yield (high_HW < _BRIGHTEST_BLACK) & (high_HW - low_HW < 0.35 * high_HW)


def _ink(kind_HW: NDArray[np.bool_], picture: _Picture, pure: float, is_black: bool) -> NDArray[np.bool_]:
    """What of one kind of ink's colour is ink. Black has no saturation, and is strong; red is never too pure."""
    square = np.ones((2 * HALO_PX + 1,) * 2, np.uint8)
    # A stain comes close to an ink's colour in one pixel and not in the next: both belong to one part.
    whole_HW = cv2.morphologyEx(kind_HW.view(np.uint8), cv2.MORPH_CLOSE, square)
    n, label_HW = cv2.connectedComponents(whole_HW, connectivity=4)

    def count(of_HW: NDArray[np.bool_]) -> NDArray[np.int64]:
        counted_K: NDArray[np.int64] = np.bincount(label_HW[of_HW], minlength=n)
        return counted_K

    area_K, coloured = count(kind_HW), int((picture.coloured_HW | kind_HW).sum())
    strong_K = np.full(n, is_black) | (2 * count(kind_HW & (picture.saturation_HW >= SATURATED)) > area_K)
    # At its edge everything is uneven; what has nothing within its edge is thinner than a pen draws.
    inner_HW = cv2.erode(whole_HW, square).view(bool)
    uneven_K = 2 * count(inner_HW & picture.uneven_HW) >= count(inner_HW)
    pure_K = 2 * count(kind_HW & (picture.saturation_HW >= pure)) > area_K
    within_K = _within(label_HW, picture.coloured_HW, n)
    if whole_HW.sum() > MOST * coloured:
        within_K[:] = True
    pale_K, like_tissue_K = ~strong_K, strong_K & within_K & uneven_K & ~pure_K
    pale_is_ink = area_K[pale_K].sum() <= FEW * coloured
    tissue_is_ink = area_K[like_tissue_K].sum() <= MUCH * coloured
    ink_K = np.where(pale_K, ~within_K & pale_is_ink, ~like_tissue_K | tissue_is_ink)
    ink_HW: NDArray[np.bool_] = ink_K[label_HW] & kind_HW
    return ink_HW


def _within(label_HW: NDArray[np.int32], coloured_HW: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """Which parts lie in tissue, (n,): more than `WITHIN` of their surroundings, halo left out, is coloured."""

    def reach(px: int) -> NDArray[np.float32]:
        reached_HW: NDArray[np.float32] = cv2.dilate(label_HW.astype(np.float32), np.ones((2 * px + 1,) * 2, np.uint8))
        return reached_HW

    around_HW = reach(HALO_PX + SURROUNDINGS_PX)
    around_HW[reach(HALO_PX) > 0] = 0
    around_HW = around_HW.astype(np.int32)
    everywhere_K = np.bincount(around_HW.ravel(), minlength=n)
    coloured_K = np.bincount(around_HW[coloured_HW], minlength=n)
    return coloured_K > WITHIN * np.maximum(everywhere_K, 1)


def _density(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Optical density, natural logarithm, summed over the colours, (H, W).

    By a table and a colour at a time: the picture may have 16 million pixels.
    """
    density_HW = np.zeros(rgb_HWC.shape[:2], np.float32)
    for c in range(3):
        density_HW += _DENSITY[rgb_HWC[..., c]]
    return density_HW
