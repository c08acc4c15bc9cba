"""Which tissue lies where on a demo slide: the section's outline, and a warped Voronoi partition of it.

Regions are several hundred pixels wide, so most tiles show one tissue. They are laid out along an axis in the order in
which an organ has its layers, so that the overview looks like a section and not like a patchwork.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.demo.noise import fractal, generator, grain, smooth, tiled

CLASSES = ("background", "gland", "tumour", "stroma", "fat", "lymphocytes", "necrosis", "muscle")
BACKGROUND, GLAND, TUMOUR, STROMA, FAT, LYMPHOCYTES, NECROSIS, MUSCLE = range(8)
_COARSE = 4
_REGION_PX = 470.0
_TUMOUR_LAYERS = (GLAND, GLAND, LYMPHOCYTES, STROMA, TUMOUR, NECROSIS, TUMOUR, LYMPHOCYTES, STROMA, MUSCLE, FAT, FAT)
_NORMAL_LAYERS = (GLAND, GLAND, GLAND, LYMPHOCYTES, STROMA, STROMA, MUSCLE, MUSCLE, FAT, FAT)


def has_tumour(number: int) -> bool:
    """Whether that slide shows tumour (and necrosis): the odd ones do."""
    return number % 2 == 1


def regions(number: int, side_px: int) -> NDArray[np.uint8]:
    """The label map (side_px, side_px) uint8: indices into CLASSES."""
    rng = generator(number, "regions")
    side = -(-side_px // _COARSE)
    y, x = np.meshgrid(*[np.linspace(-1, 1, side, dtype=np.float32)] * 2, indexing="ij")
    coarse = _partition(rng, number, side_px, y, x)
    coarse[~_section(rng, y, x)] = BACKGROUND
    # Every pixel looks its label up a little beside itself, which turns the coarse grid's steps into ragged borders.
    texture = grain(rng, (3.5, 3.5)) * np.float32(3.0)
    shift_y, shift_x = tiled(texture, (side_px, side_px)), tiled(texture.T, (side_px, side_px))
    at = np.arange(side_px, dtype=np.float32)
    rows = np.clip((at[:, None] + shift_y) / _COARSE, 0, side - 1).astype(np.int32)
    columns = np.clip((at[None, :] + shift_x) / _COARSE, 0, side - 1).astype(np.int32)
    label_HW: NDArray[np.uint8] = np.take(coarse, rows * side + columns)
    return label_HW


def _partition(
    rng: np.random.Generator, number: int, side_px: int, y: NDArray[np.float32], x: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """A label for every point, from the nearest of the regions' centres, seen through a warp."""
    layers = _TUMOUR_LAYERS if has_tumour(number) else _NORMAL_LAYERS
    across = max(3, round(1.6 * side_px / 2 / _REGION_PX * 1.2))
    axis = np.linspace(-0.8, 0.8, across)
    centres = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    centres += rng.uniform(-0.3, 0.3, centres.shape) * (1.6 / across)
    angle = rng.uniform(0, 2 * math.pi)
    depth = centres @ np.array([math.sin(angle), math.cos(angle)]) + rng.normal(0, 0.12, len(centres))
    # The rank along the axis among the centres that lie in the section picks the layer.
    inside = np.sort(depth[np.hypot(*centres.T) < 0.95])
    rank = np.searchsorted(inside, depth)
    label_of_centre = np.array(layers, np.uint8)[np.minimum(rank * len(layers) // len(inside), len(layers) - 1)]
    warped_y = y + fractal(rng, y.shape, y.shape[0] / 5, 4) * np.float32(0.07)
    warped_x = x + fractal(rng, y.shape, y.shape[0] / 5, 4) * np.float32(0.07)
    nearest = np.zeros(y.shape, np.uint8)
    best = np.full(y.shape, np.inf, np.float32)
    for i, (centre_y, centre_x) in enumerate(centres.astype(np.float32)):
        distance = (warped_y - centre_y) ** 2 + (warped_x - centre_x) ** 2
        closer = distance < best
        nearest[closer] = label_of_centre[i]
        best[closer] = distance[closer]
    return nearest


def _section(rng: np.random.Generator, y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where tissue lies on the glass: a ragged blob with a tear in it."""
    angle, squeeze = rng.uniform(0, math.pi), rng.uniform(0.84, 0.97)
    along = x * math.cos(angle) + y * math.sin(angle)
    aside = (y * math.cos(angle) - x * math.sin(angle)) / squeeze
    blob = 0.90 - np.sqrt(along**2 + aside**2) + 0.07 * fractal(rng, y.shape, y.shape[0] / 4, 5)
    offset, bend = rng.uniform(-0.3, 0.3), smooth(rng, y.shape, y.shape[0] / 3)
    width = 0.022 * np.clip(along - rng.uniform(0.1, 0.3), 0, None)
    tear = np.abs(aside - offset - 0.12 * bend) < width + 0.004 * fractal(rng, y.shape, y.shape[0] / 30, 2) * (
        width > 0
    )
    section: NDArray[np.bool_] = (blob > 0) & ~tear
    return section


def fibre_frame(number: int, shape: tuple[int, ...], scale: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(along, across) in level-0 pixels for every pixel of a grid `scale` times coarser: the coordinates of fibres."""
    rng = generator(number, "fibres")
    y, x = np.meshgrid(*[np.arange(side, dtype=np.float32) * np.float32(scale) for side in shape], indexing="ij")
    angle = rng.uniform(0, math.pi)
    across = y * math.cos(angle) - x * math.sin(angle)
    along = x * math.cos(angle) + y * math.sin(angle)
    across += 75 * smooth(rng, shape, 520 / scale) + 12 * smooth(rng, shape, 120 / scale)
    return along.astype(np.float32), across.astype(np.float32)
