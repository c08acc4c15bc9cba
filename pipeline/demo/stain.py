"""From stain concentrations to the colours a scanner sees: Beer-Lambert, with each slide's own stains and lamp.

Hue and strength vary from slide to slide more than they do between tissues, so colour alone does not tell a tissue.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pipeline.demo.noise import Field, generator, grain, resize, smooth, tiled

PEN_SLIDE = 3
"""Somebody has marked this one with a blue pen, on the glass and a little over the tissue."""
BLURRED_SLIDE = 6
"""A band of this one is out of focus."""
# Optical density of red, green, blue per unit of stain: eosin after Macenko et al. (ISBI 2009), hematoxylin bluer.
_HEMATOXYLIN = np.array([0.62, 0.71, 0.33], np.float32)
_EOSIN = np.array([0.2159, 0.8012, 0.5581], np.float32)
_STEPS = 256
_MAX_STAIN = 2.6


def stain(number: int, label_HW: NDArray[np.uint8], hematoxylin_HW: Field, eosin_HW: Field) -> NDArray[np.uint8]:
    """RGB (H, W, 3) uint8 of the slide, from its concentrations (0 = none, about 1 = well stained)."""
    rng = generator(number, "stain")
    shape = label_HW.shape
    strength_h, strength_e = rng.uniform(0.72, 1.28, 2)
    table = _colours(rng, strength_h, strength_e)
    noise = tiled(grain(rng, (0.8, 0.8)), shape)
    uneven = resize(smooth(rng, (64, 64), 24), shape) * np.float32(0.05) + 1
    scale = np.float32((_STEPS - 1) / _MAX_STAIN)
    codes = []
    for map_HW in (hematoxylin_HW, eosin_HW):
        level = map_HW * uneven
        level *= 1 + np.float32(0.06) * noise
        codes.append(np.clip(level * scale, 0, _STEPS - 1).astype(np.int32))
    rgb_HWC = np.take(table, codes[0] * _STEPS + codes[1], axis=0)
    if number == PEN_SLIDE:
        _pen(rng, rgb_HWC)
    return _optics(number, rgb_HWC)


def _colours(rng: np.random.Generator, strength_h: float, strength_e: float) -> NDArray[np.uint8]:
    """The colour (256 * 256, 3) of every pair of concentrations, for this slide's dyes and lamp."""
    hematoxylin = _HEMATOXYLIN * rng.uniform(0.87, 1.13, 3) * strength_h
    eosin = _EOSIN * rng.uniform(0.86, 1.14, 3) * strength_e
    lamp = np.array([244, 243, 245]) + rng.uniform(-6, 6) + rng.uniform(-3, 3, 3)
    level = np.linspace(0, _MAX_STAIN, _STEPS)[:, None]
    # Thin stain follows Beer-Lambert; a scanner's stray light keeps the darkest from black.
    light = np.exp(-(level * hematoxylin))[:, None, :] * np.exp(-(level * eosin))[None, :, :]
    return (lamp * (0.03 + 0.97 * light)).round().clip(0, 255).astype(np.uint8).reshape(-1, 3)


def _pen(rng: np.random.Generator, rgb_HWC: NDArray[np.uint8]) -> None:
    """Draw a hand-drawn blue arc, in place; ink absorbs on top of the tissue."""
    side = rgb_HWC.shape[0]
    small = 512
    y, x = np.meshgrid(*[np.linspace(-1, 1, small, dtype=np.float32)] * 2, indexing="ij")
    wobble = smooth(rng, (small, small), 120) * np.float32(0.03)
    radius = np.hypot(x - 0.55, y - 0.6) + wobble
    angle = np.arctan2(y - 0.6, x - 0.55)
    stroke = np.clip((0.035 - np.abs(radius - 0.34)) * 80, 0, 1) * np.clip((2.6 - np.abs(angle - 0.35)) * 12, 0, 1)
    stroke *= 0.8 + 0.2 * np.tanh(smooth(rng, (small, small), 14))
    ink_HW = np.clip(resize(stroke.astype(np.float32), (side, side)), 0, 1)
    rows, columns = np.nonzero(ink_HW > 0.01)
    absorbed = np.exp(-ink_HW[rows, columns, None] * np.array([1.9, 1.05, 0.25], np.float32))
    rgb_HWC[rows, columns] = (rgb_HWC[rows, columns] * absorbed).astype(np.uint8)


def _optics(number: int, rgb_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The lens: everything a little soft, and on one slide a band out of focus."""
    image = Image.fromarray(rgb_HWC).filter(ImageFilter.Kernel((3, 3), (1, 3, 1, 3, 9, 3, 1, 3, 1)))
    if number == BLURRED_SLIDE:
        side = image.width
        box = (math.floor(side * 0.56), 0, math.floor(side * 0.68), image.height)
        image.paste(image.crop(box).filter(ImageFilter.GaussianBlur(2.0)), box)
    return np.asarray(image)
