"""Slides made on the spot: tissue-like patches on glass, in a tiled TIFF that OpenSlide opens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image


def tissue_picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """(height, width, 3): pale glass all round, and a stained, textured ellipse over the middle."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 12 + 1, width // 12 + 1)).astype(np.uint8))
    texture_HW1 = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))[..., None] / 255
    stain_HWC = (170, 80, 160) + texture_HW1 * (60, 80, 40) + rng.integers(-12, 13, (height, width, 1))
    y_H1, x_1W = np.ogrid[:height, :width]
    inside_HW = ((x_1W - width / 2) / (0.42 * width)) ** 2 + ((y_H1 - height / 2) / (0.42 * height)) ** 2 <= 1
    picture_HWC = np.where(inside_HW[..., None], stain_HWC, 243)
    return np.clip(picture_HWC, 0, 255).astype(np.uint8)


def make_slide(
    path: Path,
    rgb_HWC: NDArray[np.uint8],
    mpp: tuple[float, float] = (0.5, 0.5),
    level_sizes: Sequence[tuple[int, int]] = (),
) -> Path:
    """Level 0 and reduced levels of the given (width, height), lossless, 128 px tiles, with resolution tags."""
    level = Image.fromarray(rgb_HWC)
    with tifffile.TiffWriter(path) as tiff:
        for i, size in enumerate([level.size, *level_sizes]):
            tiff.write(
                np.asarray(level.resize(size, Image.Resampling.BOX)),
                tile=(128, 128),
                photometric="rgb",
                compression="deflate",
                subfiletype=int(i > 0),
                resolution=(1e4 / mpp[0], 1e4 / mpp[1]),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path
