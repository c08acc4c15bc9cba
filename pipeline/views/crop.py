"""A square box of a tile, resized to another side: Pillow's own bicubic filter, and the integers that it comes to.

The filter widens by the factor it shrinks, so it is antialiased. Boxes are given in shares of the tile's side and cut
from the tile as it is stored: a student at another side than the teacher's sees the same piece of tissue, resized once.

Pillow resamples rows, then columns; each output is a sum of a few inputs with weights in units of 2^-22, rounded to a
byte. `taps` gives those inputs and weights, so that batch.py can do the same sum on another device.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.tiles.pixels import resize
from pipeline.views.fields import BOX

PRECISION_BITS = 22
"""Of Pillow's weights for 8-bit images (Resample.c)."""
_SUPPORT = 2.0
"""Half width of the bicubic filter, in inputs, where it does not shrink."""


def box_px(fields_P: NDArray[np.float32], side_px: int) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a view's crop on a tile of `side_px`, in pixels, fractional."""
    x0, y0, side = (float(value) for value in fields_P[BOX])
    return x0 * side_px, y0 * side_px, min(1.0, x0 + side) * side_px, min(1.0, y0 + side) * side_px


def crop(image_HWC: NDArray[np.uint8], fields_P: NDArray[np.float32], out_px: int) -> NDArray[np.uint8]:
    """The view's box of a square tile as (out_px, out_px, 3) uint8; the tile itself where that is all of it."""
    return resize(image_HWC, (out_px, out_px), box_px(fields_P, image_HWC.shape[0]))


def taps(
    start_N: NDArray[np.float64], stop_N: NDArray[np.float64], side_px: int, out_px: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Which inputs each output along an axis sums, and with what weights: two (N, out_px, K).

    `start_N`, `stop_N` bound each tile's box in pixels. Inputs that are not there have weight 0. The arithmetic, its
    order and its precisions are those of `precompute_coeffs` and `normalize_coeffs_8bpc` in Pillow's Resample.c.
    """
    start_N1, stop_N1 = (values.astype(np.float32)[:, None] for values in (start_N, stop_N))
    scale_N1 = (stop_N1 - start_N1).astype(np.float64) / out_px
    widen_N1 = np.maximum(scale_N1, 1.0)
    support_N1 = _SUPPORT * widen_N1
    centre_NO = start_N1 + (np.arange(out_px) + 0.5) * scale_N1
    first_NO = np.maximum((centre_NO - support_N1 + 0.5).astype(np.int64), 0)
    count_NO = np.minimum((centre_NO + support_N1 + 0.5).astype(np.int64), side_px) - first_NO
    k = np.arange(count_NO.max())
    at_NOK = first_NO[..., None] + k
    weight_NOK = _bicubic((at_NOK - centre_NO[..., None] + 0.5) * (1.0 / widen_N1)[..., None])
    weight_NOK[k >= count_NO[..., None]] = 0.0
    # Summed one by one, as Pillow does: numpy's own sum takes another order.
    total_NO = np.zeros(count_NO.shape)
    for i in k:
        total_NO += weight_NOK[..., i]
    scaled_NOK = weight_NOK / total_NO[..., None] * 2.0**PRECISION_BITS
    weights_NOK = np.trunc(scaled_NOK + np.copysign(0.5, scaled_NOK)).astype(np.int32)
    return np.minimum(at_NOK, side_px - 1), weights_NOK


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys 1981 with a = -0.5."""
    x = np.abs(x)
    near = ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
