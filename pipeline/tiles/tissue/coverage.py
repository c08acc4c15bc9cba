"""How much of each tile is tissue, exactly, from an integral image; and the mean of anything else over each tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
        return between(integral, x_N, y_N)

    mean_N = np.empty(len(box_N4))
    # For some boxes at a time: there may be millions.
    for start in range(0, len(box_N4), _BOXES):
        x0_N, y0_N, x1_N, y1_N = box_N4[start : start + _BOXES].T
        inside_N = upto(x1_N, y1_N) - upto(x0_N, y1_N) - upto(x1_N, y0_N) + upto(x0_N, y0_N)
        mean_N[start : start + _BOXES] = inside_N / ((x1_N - x0_N) * (y1_N - y0_N))
    return mean_N


def between(value_HW: Array, x_N: NDArray[np.float64], y_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """The picture between its pixels, linear both ways, (N,); at its edge for what lies beyond.

    To the bit `scipy.ndimage.map_coordinates` of order 1, whose import takes longer than a small slide.
    """
    index_22, weight_22 = list[tuple[NDArray[np.int64], ...]](), list[tuple[NDArray[np.float64], ...]]()
    for at_N, length in ((y_N, value_HW.shape[0]), (x_N, value_HW.shape[1])):
        first_N = np.floor(at_N)
        before_N = 1.0 - (at_N - first_N)
        index_22.append(tuple(np.clip(first_N + i, 0, length - 1).astype(np.int64) for i in (0, 1)))
        weight_22.append((before_N, 1.0 - before_N))
    total_N = np.zeros(len(x_N))
    for row_N, down_N in zip(index_22[0], weight_22[0], strict=True):
        for column_N, across_N in zip(index_22[1], weight_22[1], strict=True):
            total_N += value_HW[row_N, column_N] * down_N * across_N
    return total_N
