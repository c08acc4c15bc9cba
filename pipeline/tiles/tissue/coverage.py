"""How much of each tile is tissue, exactly, from an integral image; and the mean of anything else over each tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.base.types import Array
from pipeline.tiles.opencv import cv2

_BOXES = 1 << 16


def coverage(mask_HW: NDArray[np.bool_], box_N4: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each box that is set, (N,) in 0-1; boxes are x0, y0, x1, y1 in fractional mask pixels, within it."""
    return np.clip(box_means(mask_HW, box_N4), 0.0, 1.0)


def box_means(value_HW: Array, box_N4: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the picture over each box, (N,); boxes as in `coverage`.

    Exact: within a pixel the integral is bilinear, so it may be read between pixels.
    """
    number_HW = value_HW.view(np.uint8) if value_HW.dtype == bool else value_HW
    integral = cv2.integral(number_HW, sdepth=cv2.CV_64F)

    def upto(x_N: NDArray[np.float64], y_N: NDArray[np.float64]) -> NDArray[np.float64]:
        values_N: NDArray[np.float64] = ndimage.map_coordinates(integral, [y_N, x_N], order=1, mode="nearest")
        return values_N

    mean_N = np.empty(len(box_N4))
    # For some boxes at a time: there may be millions.
    for start in range(0, len(box_N4), _BOXES):
        x0_N, y0_N, x1_N, y1_N = box_N4[start : start + _BOXES].T
        inside_N = upto(x1_N, y1_N) - upto(x0_N, y1_N) - upto(x1_N, y0_N) + upto(x0_N, y0_N)
        mean_N[start : start + _BOXES] = inside_N / ((x1_N - x0_N) * (y1_N - y0_N))
    return mean_N
