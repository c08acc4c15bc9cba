"""From the pixels of a pyramid level to a tile's: low-pass, then interpolation.

Pillow's antialiased bicubic, which teachers are fed with, widens the cubic kernel by the factor s it shrinks by, and
weighs the pixels anew for every pixel it makes. Here the same widened kernel, taken at whole pixels, is one filter for
the whole tile, and linear interpolation reads between what it leaves; what that blurs on average is put into the filter
beforehand. On H&E at 40x, over s from 1.05 to 4, the two agree to 46 to 53 dB PSNR, closer than Pillow's own Hamming
(40 to 44) and mostly than its Lanczos (40 to 49) come to its bicubic, and the finest stripes leave no more alias. It
takes an eighth of Pillow's time, and rounds alike on every CPU.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.base.types import Array
from pipeline.tiles.opencv import cv2

_A = -0.5
"""The cubic's free parameter (Keys 1981), Pillow's value."""


def shrink(rgb_HWC: NDArray[np.uint8], size_px: tuple[float, float], side_px: int) -> NDArray[np.uint8]:
    """The top left `size_px` (width, height; fractional) of `rgb_HWC` as (side_px, side_px, 3) uint8.

    `rgb_HWC` holds just the pixels that the size touches: nothing beyond it is looked at, so a tile does not depend on
    what it was cut from. At the same size the pixels are returned as they are.
    """
    if size_px == rgb_HWC.shape[1::-1] == (side_px, side_px):
        return rgb_HWC
    x, y = size_px[0] / side_px, size_px[1] / side_px
    smooth_HWC: Array = cv2.sepFilter2D(rgb_HWC, -1, low_pass(x), low_pass(y), borderType=cv2.BORDER_REPLICATE)
    small_HWC: Array = cv2.resize(smooth_HWC, None, fx=1 / x, fy=1 / y, interpolation=cv2.INTER_LINEAR)
    if min(small_HWC.shape[:2]) < side_px:
        # A level may end a pixel before the tile does.
        small_HWC = cv2.resize(smooth_HWC, (side_px, side_px), interpolation=cv2.INTER_LINEAR)
    tile_HWC: NDArray[np.uint8] = small_HWC[:side_px, :side_px]
    return tile_HWC


@cache
def low_pass(scale: float) -> NDArray[np.float32]:
    """The cubic kernel widened by `scale` (1 at least) and sharpened, at whole pixels, sum 1, (taps,) float32.

    Linear interpolation at a distance d from a pixel adds a variance of d (1 - d), 1/6 on average over d: a sixth of
    the curvature is taken off beforehand, by half the second difference.
    """
    scale = max(1.0, scale)
    # OpenCV has a short way for five taps; what is cut off then is below 2 % of the kernel.
    radius = 2 if scale < 1.75 else round(1.6 * scale)
    x = np.abs(np.arange(-radius - 1, radius + 2) / scale)
    inner, outer = ((_A + 2) * x - (_A + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * _A
    cubic = np.where(x < 1, inner, np.where(x < 2, outer, 0.0))
    taps = cubic[1:-1] - (cubic[:-2] - 2 * cubic[1:-1] + cubic[2:]) / 12
    normal: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return normal
