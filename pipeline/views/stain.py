"""Stain jitter: the optical densities of haematoxylin, eosin and the residual, each scaled and shifted.

Unmixing (tiles/stains.py), scaling, shifting and mixing again is one affine map of a pixel's three densities; stains
below zero are kept, so that a factor of one and a shift of none change no pixel.

`restain` does so in floats, to a picture on the host. `jitter` is the views', in integers: density in units of 2^-11,
the map in units of 2^-14, a sum in 32 bits, and a table back to a byte. That is exact on any device, where float
logarithms are not, and takes half the time.

Shapes: C = 3 colours, S = 3 stains, K = 3 colours before the map.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.tiles.stains import RUIFROK_SC, STAINS_SC, UNMIX_CS
from pipeline.views.fields import ALPHA, BETA

_DENSITY_BITS, MIX_BITS = 11, 14
LN_DENSITY = -np.log(np.arange(1, 257) / 256)
"""Natural optical density of each byte, (256,); a byte counts as one more than it is, so that black has one too."""
DENSITY = np.round(LN_DENSITY * 2**_DENSITY_BITS).astype(np.int32)
"""The same in units of 2^-11."""
DARKEST = int(DENSITY[0])
LEVEL = np.clip(np.round(256 * np.exp(-np.arange(DARKEST + 1) / 2**_DENSITY_BITS) - 1), 0, 255).astype(np.uint8)
"""The byte of each density, 0 … DARKEST; the inverse of DENSITY."""


def mixes(fields_NP: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Each view's map of densities: matrix (N, K, C) and shift (N, C), both in units of 2^-MIX_BITS.

    new_C = (sum over K of density_K * matrix_KC + shift_C) / 2^MIX_BITS, rounded.
    """
    matrix_NKC, shift_NC = density_map(fields_NP[:, ALPHA].astype(np.float64), fields_NP[:, BETA].astype(np.float64))
    shift_NC = shift_NC * 2**_DENSITY_BITS
    units_NKC, units_NC = (np.round(values * 2**MIX_BITS).astype(np.int32) for values in (matrix_NKC, shift_NC))
    return units_NKC, units_NC + (1 << MIX_BITS - 1)


def density_map(
    gain_NS: NDArray[np.float64], shift_NS: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What scaling and shifting each stain does to a pixel's natural densities: matrix (N, K, C) and shift (N, C)."""
    matrix_NKC = np.einsum("ks,ns,sc->nkc", UNMIX_CS, gain_NS, STAINS_SC)
    return matrix_NKC, np.einsum("ns,sc->nc", shift_NS, STAINS_SC)


def jitter(image_HWC: NDArray[np.uint8], fields_P: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A tile (H, W, 3) uint8 with the view's stain; what comes out brighter than white or darker than black is cut."""
    (matrix_KC,), (shift_C,) = mixes(fields_P[None])
    density_KM = np.take(DENSITY, np.ascontiguousarray(image_HWC.reshape(-1, 3).T))
    out_MC = np.empty((density_KM.shape[1], 3), np.uint8)
    for c in range(3):
        mixed_M = density_KM[0] * matrix_KC[0, c] + shift_C[c]
        mixed_M += density_KM[1] * matrix_KC[1, c]
        mixed_M += density_KM[2] * matrix_KC[2, c]
        mixed_M >>= MIX_BITS
        out_MC[:, c] = np.take(LEVEL, mixed_M, mode="clip")
    return out_MC.reshape(image_HWC.shape)


def restain(rgb_HWC: NDArray[np.uint8], gain_S: NDArray[np.float64], shift_S: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Haematoxylin, eosin and the rest times `gain_S` plus `shift_S`: decadic density, stains as published."""
    density_HWC = -np.log10(np.maximum(rgb_HWC.astype(np.float64), 1) / 255)
    stains_HWS = density_HWC @ np.linalg.inv(RUIFROK_SC)
    back_HWC = (stains_HWS * gain_S + shift_S) @ RUIFROK_SC
    stained_HWC: NDArray[np.uint8] = np.clip(np.rint(255 * 10.0**-back_HWC), 0, 255).astype(np.uint8)
    return stained_HWC
