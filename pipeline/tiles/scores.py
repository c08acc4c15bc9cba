"""Scores of a tile that later filters need no pixels for: is it in focus, and is there stain on it.

**Sharpness** compares the finest structure with the less fine: the mean square of the Laplacian over the mean square of
the gradient, on every second pixel of the green channel (or of the luma, where a JPEG is read as grey). Both grow alike
with contrast, so the score is of focus and not of stain: white noise has 5, and tiles of three real and three demo
slides at 0.5 um/px had (5th to 95th percentile, 224 px, stored as JPEG):

    as scanned                    1.8 - 3.9        the plain variance of the Laplacian, for comparison:  390 - 17400
    blurred, sigma 1 px (0.5 um)  1.1 - 2.5                                                              140 -  3800
    sigma 2 px                    0.6 - 1.2                                                               30 -   590
    sigma 3 px                    0.4 - 0.6                                                               12 -   150

**Stain** is the mean optical density of haematoxylin and of eosin over the tile (Ruifrok and Johnston 2001, log base
10), taken on the mask's picture of the slide against this slide's own glass. It needs no tile to be read, so tiles that
are blank are dropped before they cost anything. Averaging light over a pixel of the mask before the logarithm makes it
a little less than the mean over the tile's own pixels.
"""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray

FAINT = 4.0
"""Added to the mean square gradient, levels squared: what rounding and JPEG leave of a blank tile has no focus."""
GLASS = 245.0
"""Level of empty glass where a picture shows none."""
_RUIFROK_SC = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
STAINS_SC = _RUIFROK_SC / np.linalg.norm(_RUIFROK_SC, axis=1, keepdims=True)
"""Optical density of red, green, blue per unit of haematoxylin, eosin and a residual (DAB), each of length one."""
_UNMIX_CS = np.linalg.inv(STAINS_SC)


def sharpness(image: NDArray[np.uint8]) -> float:
    """The score of a tile's pixels, (H, W, 3) RGB or (H, W) or (H, W, 1) grey, uint8; 0 where there is nothing."""
    half = image[::2, ::2] if image.ndim == 2 else image[::2, ::2, 1 if image.shape[2] == 3 else 0]
    grey_HW = half.astype(np.float32)
    right_HW, down_HW = grey_HW[:, 1:] - grey_HW[:, :-1], grey_HW[1:] - grey_HW[:-1]
    laplacian_HW = right_HW[1:-1, 1:] - right_HW[1:-1, :-1]
    laplacian_HW += down_HW[1:, 1:-1]
    laplacian_HW -= down_HW[:-1, 1:-1]
    gradient = _mean_square(right_HW) + _mean_square(down_HW)
    return _mean_square(laplacian_HW) / (gradient + FAINT)


def jpeg_sharpness(data: bytes) -> float:
    """The score of a JPEG file, by its luma alone. Raises `ValueError` where it does not decode."""
    return sharpness(simplejpeg.decode_jpeg(data, "GRAY"))


def stains(rgb_HWC: NDArray[np.uint8], glass_HW: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Optical density of haematoxylin and of eosin, (H, W, 2) float32, never below 0.

    `glass_HW` marks empty glass; its median colour is the light that comes through where nothing absorbs. Without any,
    it is `GLASS`.
    """
    light = np.full(3, GLASS)
    if glass_HW is not None and glass_HW.mean() >= 0.01:
        light = np.maximum(np.median(rgb_HWC[glass_HW], axis=0), 1.0)
    table_VC = -np.log10(np.maximum(np.arange(256)[:, None], 1.0) / light)
    stain_HWS = np.zeros((*rgb_HWC.shape[:2], 2), np.float32)
    for c in range(3):
        table_VS = (table_VC[:, c, None] * _UNMIX_CS[c, :2]).astype(np.float32)
        stain_HWS += table_VS[rgb_HWC[..., c]]
    return np.maximum(stain_HWS, 0, out=stain_HWS)


def _mean_square(values_HW: NDArray[np.float32]) -> float:
    flat = values_HW.ravel()
    return float(np.dot(flat, flat)) / max(1, flat.size)
