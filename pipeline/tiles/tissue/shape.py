"""What the shape of a mask says: gaps in tissue are tissue, specks on glass are dirt. Sizes in mask pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.tiles.opencv import cv2

SMOOTH_UM = 16.0
"""Gaps up to twice this are closed."""
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def smooth(mask_HW: NDArray[np.bool_], mpp: float, min_px: float) -> NDArray[np.bool_]:
    """The mask with gaps closed, threads cut and holes of fewer than `min_px` pixels filled."""
    steps = max(1, round(SMOOTH_UM / mpp))
    # Beyond the picture's border the tissue is taken to go on as it is, else both steps would eat into the border.
    closed_HW = _eroded(_dilated(mask_HW, steps), steps)
    opened_HW = _dilated(_eroded(closed_HW))
    return ~drop_small(~(opened_HW & closed_HW), min_px)


def grow(mask_HW: NDArray[np.bool_], by_px: float) -> NDArray[np.bool_]:
    """The mask and what lies within so many pixels of it, at least one."""
    return _dilated(mask_HW, max(1, round(by_px)))


def drop_small(mask_HW: NDArray[np.bool_], min_px: float, *, diagonal: bool = False) -> NDArray[np.bool_]:
    """The mask without its connected parts of fewer than `min_px` pixels; with `diagonal`, corners connect too."""
    connectivity = 8 if diagonal else 4
    _, label_HW, found, _ = cv2.connectedComponentsWithStats(mask_HW.view(np.uint8), connectivity=connectivity)
    keep = found[:, cv2.CC_STAT_AREA] >= min_px
    keep[0] = False
    kept_HW: NDArray[np.bool_] = keep[label_HW]
    return kept_HW


def touching(mask_HW: NDArray[np.bool_], other_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected parts of the mask that hold some of the other."""
    n, label_HW = cv2.connectedComponents(mask_HW.view(np.uint8), connectivity=4)
    keep = np.zeros(n, bool)
    keep[np.unique(label_HW[other_HW])] = True
    keep[0] = False
    kept_HW: NDArray[np.bool_] = keep[label_HW]
    return kept_HW


def _dilated(mask_HW: NDArray[np.bool_], steps: int = 1) -> NDArray[np.bool_]:
    """So many times by the pixels beside, above and below."""
    dilated_HW: NDArray[np.bool_] = cv2.dilate(mask_HW.view(np.uint8), _CROSS, iterations=steps).view(bool)
    return dilated_HW


def _eroded(mask_HW: NDArray[np.bool_], steps: int = 1) -> NDArray[np.bool_]:
    """So many times by the same; nothing comes in from beyond the picture."""
    eroded_HW: NDArray[np.bool_] = cv2.erode(mask_HW.view(np.uint8), _CROSS, iterations=steps).view(bool)
    return eroded_HW
