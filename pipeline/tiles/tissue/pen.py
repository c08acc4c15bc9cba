"""Ink on the glass: colours that haematoxylin and eosin do not make, unless they are what the tissue is stained with.

Haematoxylin and eosin both absorb green most, so a pixel that is blue, green, saturated red or black is of an ink's
colour. So is collagen in a trichrome, mucin in Alcian blue, and the counterstain of many immunostains. Ink is few,
saturated and even; a stain lies within tissue, or is the tissue. So each connected part of an ink's colour is looked
at, one kind of ink after the other:

    pure    blue or green, solid and saturated by `PURE`, with its edge: ink
    strong  more than half of it is saturated by `SATURATED`, or it is black: ink, but for a part that is as uneven as
            tissue is (`UNEVEN`), lies in tissue, and is one of those that together are more than `MUCH` of what is
            coloured
    pale    the rest: ink only where it stands on glass, and all that is pale of the kind is at most `FEW` of what is
            coloured on the slide

Where a kind is more than `MOST` of what is coloured, it is the tissue that its parts would lie in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

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
HALO_PX, SURROUNDINGS_PX, EDGE_PX = 2, 6, 3
"""Around a part its own pale edge, which says nothing; so far beyond it lie its surroundings; ink's own pale edge."""
Kind = Literal["blue or green", "red", "black"]
KINDS: tuple[Kind, ...] = ("blue or green", "red", "black")
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
    for kind_HW, which in zip(kinds, KINDS, strict=True):
        if kind_HW.any():
            ink_HW |= _ink(kind_HW, picture, which)
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


def _ink(kind_HW: NDArray[np.bool_], picture: _Picture, which: Kind) -> NDArray[np.bool_]:
    """What of one kind of ink's colour is ink."""
    coloured = int((picture.coloured_HW | kind_HW).sum())
    pure_HW = np.zeros_like(kind_HW)
    if which == "blue or green":
        pure_HW = _changed(cv2.MORPH_OPEN, kind_HW & (picture.saturation_HW >= PURE), HALO_PX)
        pure_HW = kind_HW & cv2.dilate(pure_HW.view(np.uint8), _square(EDGE_PX)).view(bool)
    rest_HW = kind_HW & ~pure_HW
    parts = _Parts(rest_HW)
    within_K = parts.within(picture.coloured_HW)
    if parts.whole_HW.sum() > MOST * coloured:
        within_K[:] = True
    strong_K = 2 * parts.count(rest_HW & (picture.saturation_HW >= SATURATED)) > parts.area_K
    if which == "black":
        strong_K[:] = True
    # At its edge everything is uneven; what has nothing within its edge is thinner than a pen draws.
    inner_HW = cv2.erode(parts.whole_HW.view(np.uint8), _square(HALO_PX)).view(bool)
    uneven_K = 2 * parts.count(inner_HW & picture.uneven_HW) >= parts.count(inner_HW)
    like_tissue_K = strong_K & within_K & uneven_K
    tissue_is_ink = parts.area_K[like_tissue_K].sum() <= MUCH * coloured
    pale_is_ink = parts.area_K[~strong_K].sum() <= FEW * coloured
    ink_K = np.where(strong_K, ~like_tissue_K | tissue_is_ink, ~within_K & pale_is_ink)
    return pure_HW | (parts.those(ink_K) & rest_HW)


class _Parts:
    """The connected parts of a mask, K of them and nothing, where what comes close is one part.

    A stain has an ink's colour in one pixel and not in the next.
    """

    def __init__(self, mask_HW: NDArray[np.bool_]) -> None:
        self.whole_HW = _changed(cv2.MORPH_CLOSE, mask_HW, HALO_PX)
        self._n, self._label_HW = cv2.connectedComponents(self.whole_HW.view(np.uint8), connectivity=4)
        self.area_K = self.count(mask_HW)

    def count(self, of_HW: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Pixels of each that are set, (K + 1,); the first is what lies in no part, and of the mask has none."""
        counted_K: NDArray[np.int64] = np.bincount(self._label_HW[of_HW], minlength=self._n)
        return counted_K

    def those(self, which_K: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The pixels of the chosen parts, (H, W)."""
        chosen_HW: NDArray[np.bool_] = which_K[self._label_HW] & (self._label_HW > 0)
        return chosen_HW

    def within(self, coloured_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which lie in tissue, (K + 1,): more than `WITHIN` of their surroundings, halo left out, is coloured."""
        label_HW = self._label_HW.astype(np.float32)
        around_HW = cv2.dilate(label_HW, _square(HALO_PX + SURROUNDINGS_PX))
        around_HW[cv2.dilate(label_HW, _square(HALO_PX)) > 0] = 0
        around_HW = around_HW.astype(np.int32)
        everywhere_K = np.bincount(around_HW.ravel(), minlength=self._n)
        coloured_K = np.bincount(around_HW[coloured_HW], minlength=self._n)
        return coloured_K > WITHIN * np.maximum(everywhere_K, 1)


def _square(reach_px: int) -> NDArray[np.uint8]:
    return np.ones((2 * reach_px + 1,) * 2, np.uint8)


def _changed(how: int, mask_HW: NDArray[np.bool_], reach_px: int) -> NDArray[np.bool_]:
    changed_HW: NDArray[np.bool_] = cv2.morphologyEx(mask_HW.view(np.uint8), how, _square(reach_px)).view(bool)
    return changed_HW


def _density(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Optical density, natural logarithm, summed over the colours, (H, W).

    By a table and a colour at a time: the picture may have 16 million pixels.
    """
    density_HW = np.zeros(rgb_HWC.shape[:2], np.float32)
    for c in range(3):
        density_HW += _DENSITY[rgb_HWC[..., c]]
    return density_HW
