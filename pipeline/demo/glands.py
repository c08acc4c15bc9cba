"""The large structures of the demo slides: glands, painted one by one, and fat, painted as a foam of cells.

Sizes are in level-0 pixels. Everything is painted in place into the hematoxylin and eosin maps (H, W) float32.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.demo.noise import Field, resize, smooth
from pipeline.demo.nuclei import Look, Nuclei, lookup, paint, scatter

_GLAND_SPACING_PX = 106.0
_FAT_SPACING_PX = 96.0
_FAT_GRID = 4


def paint_glands(
    rng: np.random.Generator, inside_HW: NDArray[np.bool_], hematoxylin_HW: Field, eosin_HW: Field
) -> NDArray[np.floating]:
    """Paint glands that lie wholly in `inside_HW`: lumen, mucin, upright nuclei. Returns (G, 3) x, y, radius."""
    xy_G2 = scatter(rng, inside_HW.shape, _GLAND_SPACING_PX, 0.13)
    radius_G = rng.uniform(36, 53, len(xy_G2))
    turn = np.linspace(0, 2 * math.pi, 12, endpoint=False)
    border = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    around = xy_G2[:, None, :] + border * radius_G[:, None, None] * 1.06
    fits = lookup(inside_HW, around.reshape(-1, 2)).reshape(around.shape[:2]).all(axis=1)
    fits &= ((around > 1) & (around < np.array(inside_HW.shape[::-1]) - 2)).all(axis=(1, 2))
    glands_G3 = np.column_stack([xy_G2, radius_G])[fits]
    places, angles = [], []
    for x, y, radius in glands_G3:
        shape = _Outline.draw(rng)
        _gland(rng, x, y, radius, shape, hematoxylin_HW, eosin_HW)
        count = int(2 * math.pi * radius / 8.6)
        theta = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * (2 * math.pi / count)
        at = radius * shape.radius(np.cos(theta), np.sin(theta)) * rng.uniform(0.78, 0.86, count)
        places.append(np.stack([x + at * np.cos(theta), y + at * np.sin(theta)], axis=-1))
        angles.append(theta + rng.normal(0, 0.16, count))
    if places:
        ring = Nuclei.make(
            rng,
            np.concatenate(places),
            Look((6.6, 8.8), (0.48, 0.62), (1.0, 1.6), (0.1, 0.45), 0.06),
            np.concatenate(angles),
        )
        paint(hematoxylin_HW, eosin_HW, ring, rng)
    return glands_G3


class _Outline:
    """A closed curve: 1 plus two low harmonics, as a function of direction."""

    def __init__(self, amplitudes: NDArray[np.floating]) -> None:
        self.amplitudes = amplitudes

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Outline:
        return cls(rng.uniform(-1, 1, 4) * np.array([0.13, 0.13, 0.05, 0.05]))

    def radius(self, cos: NDArray[np.floating], sin: NDArray[np.floating]) -> NDArray[np.floating]:
        a, b, c, d = self.amplitudes
        cos2, sin2 = cos * cos - sin * sin, 2 * cos * sin
        harmonics = a * cos2 + b * sin2 + c * (cos2 * cos - sin2 * sin) + d * (sin2 * cos + cos2 * sin)
        return np.asarray(1 + harmonics)


def _gland(
    rng: np.random.Generator,
    x: float,
    y: float,
    radius: float,
    outline: _Outline,
    hematoxylin_HW: Field,
    eosin_HW: Field,
) -> None:
    reach = int(radius * 1.4)
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    place = np.s_[top : int(y) + reach, left : int(x) + reach]
    height, width = hematoxylin_HW[place].shape
    dy = np.arange(top, top + height, dtype=np.float32)[:, None] - y
    dx = np.arange(left, left + width, dtype=np.float32)[None, :] - x
    distance = np.sqrt(dx * dx + dy * dy) + 1e-3
    depth = distance / (outline.radius(dx / distance, dy / distance) * radius)
    within = np.clip((1 - depth) * radius, 0, 1)
    lumen_share = rng.uniform(0.2, 0.42)
    folds, phase = int(rng.integers(4, 9)), rng.uniform(0, 2 * math.pi)
    ragged = rng.uniform(0.01, 0.04) * np.sin(folds * np.arctan2(dy, dx) + phase)
    lumen = np.clip((lumen_share + ragged - depth) * radius * 0.5, 0, 1)
    # Cytoplasm is paler towards the lumen, where the mucin is.
    eosin = 0.30 + 0.28 * np.clip(depth - 0.4, 0, 1)
    hematoxylin = np.full_like(eosin, 0.16)
    count = int(rng.integers(4, 13))
    theta = np.sort(rng.uniform(0, 2 * math.pi, count))
    at = radius * outline.radius(np.cos(theta), np.sin(theta)) * rng.uniform(0.5, 0.62, count)
    size = rng.uniform(5.0, 8.5, count)
    for goblet_x, goblet_y, goblet in zip(at * np.cos(theta), at * np.sin(theta), size, strict=True):
        drop = np.clip(goblet - np.sqrt((dx - goblet_x) ** 2 + (dy - goblet_y) ** 2), 0, 1)
        eosin *= 1 - 0.85 * drop
        hematoxylin += (0.17 - hematoxylin) * drop
    eosin = eosin * (1 - lumen) + 0.02 * lumen
    hematoxylin = hematoxylin * (1 - lumen) + 0.03 * lumen
    eosin_HW[place] += within * (eosin - eosin_HW[place])
    hematoxylin_HW[place] += within * (hematoxylin - hematoxylin_HW[place])


def paint_fat(rng: np.random.Generator, inside_HW: NDArray[np.bool_], hematoxylin_HW: Field, eosin_HW: Field) -> None:
    """Paint empty cells between thin membranes, a few flat nuclei on these."""
    coarse = inside_HW[::_FAT_GRID, ::_FAT_GRID]
    rows, columns = np.nonzero(coarse)
    if not len(rows):
        return
    xy_C2 = scatter(rng, inside_HW.shape, _FAT_SPACING_PX, 0.24)
    warp = [smooth(rng, coarse.shape, 14)[rows, columns] * 6 for _ in range(2)]
    # Here, since every stage imports this module and few processes paint a slide.
    from scipy.spatial import cKDTree

    points = np.stack([columns * _FAT_GRID + warp[0], rows * _FAT_GRID + warp[1]], axis=-1)
    distance, cell = (np.asarray(found) for found in cKDTree(xy_C2).query(points, k=3))
    # Where the two nearest centres are equally far runs a membrane; three meet in a small corner of ground substance.
    gap = np.minimum(distance[:, 1] - distance[:, 0], (distance[:, 2] - distance[:, 0]) * 0.35)
    gap_map = np.full(coarse.shape, 9.0, np.float32)
    gap_map[rows, columns] = gap
    fine_shape = (coarse.shape[0] * _FAT_GRID, coarse.shape[1] * _FAT_GRID)
    fine = resize(gap_map, fine_shape)[: inside_HW.shape[0], : inside_HW.shape[1]]
    membrane = np.clip(1.2 - fine / 5.2, 0, 1)[inside_HW]
    eosin_HW[inside_HW] = 0.03 + 0.55 * membrane
    hematoxylin_HW[inside_HW] = 0.01 + 0.09 * membrane
    on_membrane = np.flatnonzero(gap < 2.5)
    chosen = rng.choice(on_membrane, min(len(on_membrane), len(rows) * _FAT_GRID**2 // 6000), replace=False)
    between = xy_C2[cell[chosen, 1]] - xy_C2[cell[chosen, 0]]
    angle = np.arctan2(between[:, 1], between[:, 0]) + math.pi / 2
    flat = Nuclei.make(rng, points[chosen], Look((6.0, 8.5), (0.3, 0.42), (1.1, 1.6), (0.0, 0.2), 0.05), angle)
    paint(hematoxylin_HW, eosin_HW, flat, rng)
