"""Tissue against glass, on a low-resolution picture of the slide, and how much of each tile is tissue.

    stain     a method of `METHODS` says which pixels are stained: `otsu` or `hsv`; ink is taken out (pen.py)
    shape     small gaps are closed, dirt and small holes dropped (shape.py)
    fat       what the stain misses, but its web of membranes gives away, is added (web.py)
    dark      on a dark background, as in fluorescence, nothing here means anything: there is no tissue (light.py)
    own mask  a slide's own mask, where the table names one, stands in for all of it (own_mask.py)

A new method is one file with one function, and its name in `METHODS` and in `TissueParams.method`.

Legend: H, W = height and width of the mask; N = tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import SlideRefused
from pipeline.params.tiles import TissueParams
from pipeline.tiles.stains import stains
from pipeline.tiles.tissue.coverage import box_means, coverage
from pipeline.tiles.tissue.hsv import stained_by_hsv
from pipeline.tiles.tissue.light import dark_field
from pipeline.tiles.tissue.otsu import stained_by_otsu
from pipeline.tiles.tissue.pen import pen_marks
from pipeline.tiles.tissue.shape import drop_small, grow, smooth
from pipeline.tiles.tissue.web import web

__all__ = ["METHODS", "TissueMask", "box_means", "coverage", "find_tissue"]

Method = Callable[[NDArray[np.uint8]], tuple[NDArray[np.bool_], float]]
METHODS: dict[str, Method] = {"otsu": stained_by_otsu, "hsv": stained_by_hsv}
"""Each takes (H, W, 3) uint8 and answers (H, W) bool, and the threshold of saturation that it used."""
PEN_MARGIN_UM = 24.0
"""Ink bleeds into pale edges that look like stain: this much around a pen mark goes too."""


@dataclass(frozen=True)
class TissueMask:
    """`tissue` and `pen`, (H, W) bool; `area_mm2` of the tissue; `threshold` of saturation (0: from an own mask).

    `stain` is the optical density of haematoxylin and eosin on every second pixel, (H / 2, W / 2, 2) float32; see
    stains.py.
    """

    tissue: NDArray[np.bool_]
    pen: NDArray[np.bool_]
    stain: NDArray[np.float32]
    area_mm2: float
    threshold: float


def find_tissue(
    rgb_HWC: NDArray[np.uint8],
    mpp_xy: tuple[float, float],
    params: TissueParams,
    own_HW: NDArray[np.bool_] | None = None,
) -> TissueMask:
    """The tissue in a picture of the whole slide, (H, W, 3) uint8 at `mpp_xy` um per picture pixel.

    `own_HW` is the slide's own mask on the same pixels: it is believed as it is, but for ink. Raises `SlideRefused`
    where the method is `mask` and the slide has none.
    """
    pixel_mm2 = mpp_xy[0] * mpp_xy[1] / 1e6
    min_px = params.min_area_mm2 / pixel_mm2
    is_dark = dark_field(rgb_HWC)
    if own_HW is not None:
        stained_HW, threshold = own_HW, 0.0
    elif params.method == "mask":
        fix = "give it in the mask column of slides.csv, or set tiles.tissue.method to otsu"
        raise SlideRefused("tiles.tissue.method is mask, and the table names none for it", fix=fix)
    else:
        stained_HW, threshold = METHODS[params.method](rgb_HWC)
        if is_dark:
            stained_HW = np.zeros_like(stained_HW)
    pen_HW = np.zeros(rgb_HWC.shape[:2], bool)
    # Where all is dark, black is no ink.
    if params.exclude_pen and not is_dark:
        pen_HW = grow(pen_marks(rgb_HWC, stained_HW, min_px), PEN_MARGIN_UM / max(mpp_xy))
    if own_HW is not None:
        tissue_HW = own_HW & ~pen_HW
    else:
        tissue_HW = smooth(stained_HW & ~pen_HW, max(mpp_xy), min_px) & ~pen_HW
        tissue_HW = drop_small(tissue_HW, min_px)
        if params.fat:
            tissue_HW |= web(rgb_HWC, tissue_HW, pen_HW, max(mpp_xy), min_px)
    stain_HWS = stains(rgb_HWC[::2, ::2], ~(tissue_HW | pen_HW)[::2, ::2])
    return TissueMask(tissue_HW, pen_HW, stain_HWS, float(tissue_HW.sum() * pixel_mm2), threshold)
