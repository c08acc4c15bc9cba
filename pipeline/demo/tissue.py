"""How each tissue of a demo slide is stained: maps of hematoxylin and eosin, painted from its label map.

Legend: H rows, W columns of the slide; ground textures are made at half resolution (h, w). Sizes are in level-0 pixels
of about 0.5 um: a tumour nucleus is 18 wide, a lymphocyte 12, a gland 90, a fat cell 100.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.demo.glands import paint_fat, paint_glands
from pipeline.demo.noise import Field, fractal, generator, grain, resize, sampled, smooth, tiled
from pipeline.demo.nuclei import Look, Nuclei, lookup, paint, scatter
from pipeline.demo.regions import (
    BACKGROUND,
    FAT,
    GLAND,
    LYMPHOCYTES,
    MUSCLE,
    NECROSIS,
    STROMA,
    TUMOUR,
    fibre_frame,
)  # fmt: skip


def tissue(number: int, label_HW: NDArray[np.uint8]) -> tuple[Field, Field]:
    """Concentrations (hematoxylin, eosin), each (H, W) float32: 0 on glass, 0.5 in cytoplasm, 1 to 2 in nuclei."""
    rng = generator(number, "tissue")
    shape = label_HW.shape
    label_hw = label_HW[::2, ::2]
    along, across = fibre_frame(number, label_hw.shape, 2.0)
    septum_hw = np.abs(smooth(rng, label_hw.shape, 75)) < 0.13
    grounds = _grounds(rng, label_hw, along, across, septum_hw)
    hematoxylin, eosin = (resize(ground, (label_hw.shape[0] * 2, label_hw.shape[1] * 2)) for ground in grounds)
    hematoxylin, eosin = (np.ascontiguousarray(m[: shape[0], : shape[1]]) for m in (hematoxylin, eosin))
    paint_fat(rng, label_HW == FAT, hematoxylin, eosin)
    glands = paint_glands(rng, label_HW == GLAND, hematoxylin, eosin)
    for nuclei in _nuclei(rng, label_HW, across, septum_hw, glands):
        paint(hematoxylin, eosin, nuclei, rng)
    hematoxylin *= 1 + np.float32(0.2) * tiled(grain(rng, (1.1, 1.1)), shape)
    glass = label_HW == BACKGROUND
    hematoxylin[glass] = 0
    eosin[glass] = 0
    return hematoxylin, eosin


def _grounds(
    rng: np.random.Generator, label_hw: NDArray[np.uint8], along: Field, across: Field, septum_hw: NDArray[np.bool_]
) -> tuple[Field, Field]:
    """What lies between the nuclei: (hematoxylin, eosin) at half resolution."""
    shape = label_hw.shape
    cloud = fractal(rng, shape, 64, 4)
    debris = tiled(grain(rng, (1.6, 1.6)), shape)
    collagen = sampled(grain(rng, (1.1, 13)), across / 2, along / 2)
    cleft = sampled(grain(rng, (2.0, 22)), across / 2, along / 2)
    fine = sampled(grain(rng, (0.9, 26)), across / 2, along / 3)
    bundle = sampled(grain(rng, (4.0, 60)), across / 2, along / 3)

    fibres = 0.50 + 0.13 * collagen + 0.05 * cloud
    fibres *= 1 - 0.92 * np.clip((cleft - 0.95) * 2.2, 0, 1)
    eosin = np.zeros(shape, np.float32)
    hematoxylin = np.zeros(shape, np.float32)
    recipes = {
        GLAND: (0.10 + 0.02 * cloud, 0.32 + 0.06 * collagen + 0.07 * cloud),
        TUMOUR: (0.24 + 0.05 * cloud, 0.40 + 0.07 * cloud + 0.06 * debris),
        STROMA: (0.04 + 0.03 * np.clip(collagen, 0, 2), fibres),
        LYMPHOCYTES: (0.14 + 0.03 * cloud, 0.24 + 0.05 * cloud + 0.04 * debris),
        NECROSIS: (0.07 + 0.04 * debris, 0.46 + 0.14 * debris + 0.10 * cloud),
        MUSCLE: (0.07 + 0.0 * cloud, 0.70 + 0.10 * fine - 0.6 * np.clip(bundle - 1.5, 0, 1)),
    }
    for label, (blue, pink) in recipes.items():
        at = label_hw == label
        hematoxylin[at], eosin[at] = blue[at], pink[at]
    at = septum_hw & (label_hw == TUMOUR)
    hematoxylin[at], eosin[at] = 0.06, fibres[at] + 0.08
    return np.clip(hematoxylin, 0, None), np.clip(eosin, 0.01, None)


def _nuclei(
    rng: np.random.Generator,
    label_HW: NDArray[np.uint8],
    across: Field,
    septum_hw: NDArray[np.bool_],
    glands_G3: NDArray[np.floating],
) -> list[Nuclei]:
    """Every nucleus outside the glands' rings, tissue by tissue."""

    def places(label: int, spacing_px: float, keep: float = 1.0, jitter: float = 0.3) -> NDArray[np.floating]:
        xy_N2 = scatter(rng, label_HW.shape, spacing_px, jitter)
        chosen = (lookup(label_HW, xy_N2) == label) & (rng.random(len(xy_N2)) < keep)
        kept: NDArray[np.floating] = xy_N2[chosen]
        return kept

    slope_y, slope_x = (np.asarray(slope) for slope in np.gradient(across))

    def aligned(xy_N2: NDArray[np.floating]) -> NDArray[np.floating]:
        # Fibres run along the lines on which `across` is constant.
        direction = np.arctan2(-lookup(slope_x, xy_N2, 2.0), lookup(slope_y, xy_N2, 2.0))
        turned: NDArray[np.floating] = direction + rng.normal(0, 0.12, len(xy_N2))
        return turned

    tumour = places(TUMOUR, 20.5)
    in_septum = lookup(septum_hw, tumour, 2.0).astype(bool)
    nests, septa = tumour[~in_septum], tumour[in_septum]
    lamina = places(GLAND, 15.5, 0.75)
    if len(glands_G3):
        offsets = np.linalg.norm(lamina[:, None, :] - glands_G3[None, :, :2], axis=-1)
        lamina = lamina[(offsets > glands_G3[:, 2] * 1.1).all(axis=1)]
    stroma, muscle = places(STROMA, 40, 0.85), places(MUSCLE, 31, 0.85)
    return [
        Nuclei.make(rng, nests, Look((7.0, 11.5), (0.62, 0.95), (0.95, 1.7), (0.2, 0.65), 0.14)),
        Nuclei.make(
            rng, nests[::2] + rng.normal(0, 1.5, nests[::2].shape), Look((1.5, 2.4), (0.8, 1), (1.5, 2), (0, 0), 0)
        ),
        Nuclei.make(rng, septa, Look((7, 11), (0.25, 0.4), (1.0, 1.5), (0, 0.3), 0.06), aligned(septa)),
        Nuclei.make(rng, lamina, Look((5.0, 6.5), (0.7, 1.0), (1.2, 1.8), (0.0, 0.3), 0.06)),
        Nuclei.make(
            rng, places(LYMPHOCYTES, 13.2, 0.86, 0.36), Look((4.9, 6.7), (0.8, 1), (1.1, 1.9), (0, 0.35), 0.07)
        ),
        Nuclei.make(rng, stroma, Look((9, 14), (0.2, 0.34), (1.0, 1.6), (0.0, 0.3), 0.06), aligned(stroma)),
        Nuclei.make(rng, places(STROMA, 75, 0.3), Look((5.0, 6.2), (0.85, 1), (1.3, 1.9), (0, 0.2), 0.05)),
        Nuclei.make(rng, muscle, Look((11, 17), (0.19, 0.28), (0.9, 1.3), (0.15, 0.4), 0.04), aligned(muscle)),
        Nuclei.make(rng, places(NECROSIS, 27, 0.45), Look((6, 9.5), (0.6, 1), (0.25, 0.55), (0, 0.2), 0.2)),
        Nuclei.make(rng, places(NECROSIS, 18, 0.3), Look((1.2, 2.8), (0.6, 1), (0.9, 1.7), (0, 0), 0.1)),
    ]
