"""What the shape of a mask says: gaps in tissue are tissue, specks on glass are dirt. Sizes in mask pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SMOOTH_UM = 16.0
"""Gaps up to twice this are closed."""


def smooth(mask_HW: NDArray[np.bool_], mpp: float, min_px: float) -> NDArray[np.bool_]:
    """The mask with gaps closed, threads cut and holes of fewer than `min_px` pixels filled."""
    steps = max(1, round(SMOOTH_UM / mpp))
    # Beyond the picture's border the tissue is taken to go on as it is, else both steps would eat into the border.
    closed_HW = ndimage.binary_erosion(
        ndimage.binary_dilation(mask_HW, iterations=steps), iterations=steps, border_value=1
    )
    opened_HW = ndimage.binary_dilation(ndimage.binary_erosion(closed_HW, border_value=1))
    return ~drop_small(~(opened_HW & closed_HW), min_px)


def grow(mask_HW: NDArray[np.bool_], by_px: float) -> NDArray[np.bool_]:
    """The mask and what lies within so many pixels of it, at least one."""
    grown_HW: NDArray[np.bool_] = ndimage.binary_dilation(mask_HW, iterations=max(1, round(by_px)))
    return grown_HW


def drop_small(mask_HW: NDArray[np.bool_], min_px: float, *, diagonal: bool = False) -> NDArray[np.bool_]:
    """The mask without its connected parts of fewer than `min_px` pixels; with `diagonal`, corners connect too."""
    labels_HW, _ = ndimage.label(mask_HW, np.ones((3, 3)) if diagonal else None)
    keep = np.bincount(labels_HW.ravel()) >= min_px
    keep[0] = False
    kept_HW: NDArray[np.bool_] = keep[labels_HW]
    return kept_HW


def touching(mask_HW: NDArray[np.bool_], other_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected parts of the mask that hold some of the other."""
    labels_HW, n = ndimage.label(mask_HW)
    keep = np.zeros(n + 1, bool)
    keep[np.unique(labels_HW[other_HW])] = True
    keep[0] = False
    kept_HW: NDArray[np.bool_] = keep[labels_HW]
    return kept_HW
