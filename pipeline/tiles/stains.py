"""The space of stains (HED): how much haematoxylin, eosin and residual makes a colour, after Ruifrok and Johnston 2001.

Light falls exponentially with the amount of stain, so in optical density, the negative logarithm of intensity, stains
add up: a density is a linear map of the three amounts, and its inverse unmixes them. All that unmixes takes it from
here: the score of a tile, the views' stain (views/stain.py), and robustness.

The score is the mean optical density of haematoxylin and of eosin over the tile (log base 10), taken on the mask's
picture of the slide against this slide's own glass. It needs no tile to be read, so tiles that are blank are dropped
before they cost anything. Averaging light over a pixel of the mask before the logarithm makes it a little less than
the mean over the tile's own pixels.

Shapes: C = 3 colours, S = 3 stains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RUIFROK_SC = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical density of red, green, blue per unit of haematoxylin, eosin and DAB, as published and in scikit-image."""
STAINS_SC = RUIFROK_SC / np.linalg.norm(RUIFROK_SC, axis=1, keepdims=True)
"""The same, each of length one; the third stain stands for the residual."""
UNMIX_CS = np.linalg.inv(STAINS_SC)
"""Amounts of the stains of length one per unit of density."""
GLASS = 245.0
"""Level of empty glass where a picture shows none."""


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
        table_VS = (table_VC[:, c, None] * UNMIX_CS[c, :2]).astype(np.float32)
        stain_HWS += table_VS[rgb_HWC[..., c]]
    return np.maximum(stain_HWS, 0, out=stain_HWS)
