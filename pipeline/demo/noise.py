"""Seeded noise for the demo slides. Fields are (H, W) float32 of about unit deviation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.float32]
_TEXTURE_PX = 512


def generator(number: int, purpose: str) -> np.random.Generator:
    """The random stream of one purpose on one slide, so that changing one layer leaves the others as they are."""
    return np.random.default_rng([number, *purpose.encode()])


def resize(field_HW: Field, shape: tuple[int, ...]) -> Field:
    """Bicubic resize to `shape`."""
    image = Image.fromarray(field_HW)
    return np.array(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC), np.float32)


def smooth(rng: np.random.Generator, shape: tuple[int, ...], cell_px: float) -> Field:
    """Smooth noise whose features are about `cell_px` pixels wide."""
    rows, columns = (max(2, round(side / cell_px)) + 1 for side in shape)
    return resize(rng.standard_normal((rows, columns), np.float32) * 1.4, shape)


def fractal(rng: np.random.Generator, shape: tuple[int, ...], cell_px: float, octaves: int) -> Field:
    """A sum of `octaves` smooth fields, each half as wide and half as strong as the one before."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        total += smooth(rng, shape, cell_px / 2**octave) * np.float32(0.5**octave * 0.87)
    return total


def grain(rng: np.random.Generator, sigma_yx: tuple[float, float]) -> Field:
    """A periodic texture (512, 512) of white noise smoothed by `sigma_yx`; unequal sigmas make fibres."""
    # Here, since every stage imports this module and few processes paint a slide.
    from scipy import ndimage

    white = rng.standard_normal((_TEXTURE_PX, _TEXTURE_PX), np.float32)
    texture = ndimage.gaussian_filter(white, sigma_yx, mode="wrap")
    return np.asarray(texture / texture.std(), np.float32)


def tiled(texture: Field, shape: tuple[int, ...]) -> Field:
    """The periodic texture repeated over `shape`."""
    repeats = [-(-side // _TEXTURE_PX) for side in shape]
    return np.tile(texture, repeats)[: shape[0], : shape[1]]


def sampled(texture: Field, y: NDArray[np.floating], x: NDArray[np.floating]) -> Field:
    """The periodic texture looked up at real positions, linear along y, nearest along x: a warped copy of it.

    Fibres run along x, so it is across them, along y, that steps would show.
    """
    floor = np.floor(y)
    share = (y - floor).astype(np.float32)
    row = floor.astype(np.int32)
    column = x.astype(np.int32) & (_TEXTURE_PX - 1)
    above, below = (
        np.take(texture, (at & (_TEXTURE_PX - 1)) * _TEXTURE_PX + column) for at in (row, row + np.int32(1))
    )
    return np.asarray(above + (below - above) * share, np.float32)
