"""Nuclei of the demo slides: where they lie, and how each is painted into the hematoxylin map.

Legend: N nuclei, S side of a stamp in pixels. One row of `Nuclei` is one nucleus; positions are level-0 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.types import Array
from pipeline.demo.noise import Field

_MARGIN = 1.35
"""A nucleus's ragged border stays within this many radii."""


@dataclass(frozen=True)
class Look:
    """Of a kind of nuclei, the bounds between which each is drawn: long half axis (px), short / long, stain, paleness.

    `ragged` is that of all.
    """

    long: tuple[float, float]
    aspect: tuple[float, float]
    stain: tuple[float, float]
    pale: tuple[float, float]
    ragged: float


@dataclass(frozen=True)
class Nuclei:
    """Arrays of N: centre `x`, `y`; half axes `long`, `short` (px); `angle` of the long one (rad, x towards y);
    `stain` (hematoxylin at the rim), `pale` (share of it missing inside: 0 solid, 0.6 vesicular), `ragged` (0 round).
    """

    x: Field
    y: Field
    long: Field
    short: Field
    angle: Field
    stain: Field
    pale: Field
    ragged: Field

    @classmethod
    def make(
        cls,
        rng: np.random.Generator,
        xy_N2: NDArray[np.floating],
        look: Look,
        angle: NDArray[np.floating] | None = None,
    ) -> Nuclei:
        """At given places, each with the look of its kind; turned at random where no angles are given."""
        n = len(xy_N2)
        size = rng.uniform(*look.long, n)
        turned = rng.uniform(0, np.pi, n) if angle is None else angle
        columns = (
            xy_N2[:, 0], xy_N2[:, 1], size, size * rng.uniform(*look.aspect, n), turned,
            rng.uniform(*look.stain, n), rng.uniform(*look.pale, n), np.full(n, look.ragged),
        )  # fmt: skip
        return cls(*(np.asarray(column, np.float32) for column in columns))


def scatter(rng: np.random.Generator, shape: tuple[int, ...], spacing_px: float, jitter: float) -> NDArray[np.floating]:
    """(N, 2) x, y: a hexagonal lattice over `shape`, each point moved by up to `jitter` spacings."""
    rows = np.arange(0, shape[0], spacing_px * 0.87)
    columns = np.arange(0, shape[1], spacing_px)
    x = columns[None, :] + (np.arange(len(rows)) % 2)[:, None] * (spacing_px / 2)
    y = np.broadcast_to(rows[:, None], x.shape)
    xy_N2 = np.stack([x, y], axis=-1).reshape(-1, 2)
    return xy_N2 + rng.uniform(-jitter, jitter, xy_N2.shape) * spacing_px


def lookup(map_HW: Array, xy_N2: NDArray[np.floating], scale: float = 1.0) -> Array:
    """The map's value at each point; `scale` level-0 pixels a pixel of the map; points outside take the border's."""
    column = np.clip(xy_N2[:, 0] / scale, 0, map_HW.shape[1] - 1).astype(np.int64)
    row = np.clip(xy_N2[:, 1] / scale, 0, map_HW.shape[0] - 1).astype(np.int64)
    found: Array = map_HW[row, column]
    return found


def paint(hematoxylin_HW: Field, eosin_HW: Field, nuclei: Nuclei, rng: np.random.Generator) -> None:
    """Paint nuclei in place: hematoxylin takes the larger of old and new, eosin fades under the nucleus."""
    height, width = hematoxylin_HW.shape
    extent = np.ceil(nuclei.long * _MARGIN + 1).astype(int)
    for half in np.unique(extent):
        chosen = np.flatnonzero(extent == half)
        for part in np.array_split(chosen, -(-len(chosen) // 512)):
            stamp_NSS, cover_NSS = _stamps(nuclei, part, int(half), rng)
            left = nuclei.x[part].astype(int) - half
            top = nuclei.y[part].astype(int) - half
            side = 2 * half + 1
            for i, (x, y) in enumerate(zip(left.tolist(), top.tolist(), strict=True)):
                if x < 0 or y < 0 or x + side > width or y + side > height:
                    continue
                place = np.s_[y : y + side, x : x + side]
                np.maximum(hematoxylin_HW[place], stamp_NSS[i], out=hematoxylin_HW[place])
                eosin_HW[place] *= cover_NSS[i]


def _stamps(nuclei: Nuclei, part: NDArray[np.integer], half: int, rng: np.random.Generator) -> tuple[Field, Field]:
    """Hematoxylin (n, S, S) of the nuclei `part`, and what is left of the eosin there."""
    at = np.arange(-half, half + 1, dtype=np.float32)
    column = (slice(None), None, None)
    cos, sin = np.cos(nuclei.angle[part])[column], np.sin(nuclei.angle[part])[column]
    x = at[None, None, :] - (nuclei.x[part] % 1)[column]
    y = at[None, :, None] - (nuclei.y[part] % 1)[column]
    u = (x * cos + y * sin) / nuclei.long[part][column]
    v = (y * cos - x * sin) / nuclei.short[part][column]
    radius = np.sqrt(u * u + v * v)
    # Two low harmonics of the outline: (u + iv)^k / radius^k is cos(k angle) without an arctangent.
    safe = np.maximum(radius, np.float32(0.2))
    cos1, sin1 = u / safe, v / safe
    cos2, cos3 = cos1 * cos1 - sin1 * sin1, cos1 * (1 - 4 * sin1 * sin1)
    wave2, wave3, wave1 = (rng.uniform(-1, 1, (3, len(part))) * nuclei.ragged[part]).astype(np.float32)
    radius += wave2[column] * cos2 * safe + wave3[column] * cos3 * safe + wave1[column] * sin1 * cos2 * safe
    # The border is one pixel soft; inside, chromatin thins out from the rim towards the middle.
    inside = np.clip((1 - radius) * nuclei.short[part][column] + np.float32(0.5), 0, 1)
    chromatin = nuclei.stain[part][column] * (1 - nuclei.pale[part][column] * np.clip(1.15 - radius * radius, 0, 1))
    return inside * chromatin, 1 - np.float32(0.55) * inside
