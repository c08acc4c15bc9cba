"""Why a slide has no tile, and what would help: each remedy is tried on the slide's picture before it is printed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import SlideRefused
from pipeline.params.tiles import TilesParams
from pipeline.tiles.choice import Choice, NoTiles, choose
from pipeline.tiles.grid import geometry_of, lay
from pipeline.tiles.tissue import find_tissue
from pipeline.tiles.tissue.light import dark_field, even, faint_stain, without_colour

SMALLEST_TILE_PX = 16
"""Of `tiles.tile_px`."""
_AS_A_MASK = "give its tissue as a mask in the mask column of slides.csv"


@dataclass(frozen=True)
class Remedy:
    """A change of params, as keys of `tiles` (of `tissue` where so named), why it is needed, and what to do."""

    changes: dict[str, Any]
    why: str
    fix: str


@dataclass(frozen=True)
class Picture:
    """A slide as its mask was made of it: `levels` (width, height, downsample), pixels (H, W, 3) and their um."""

    levels: Sequence[tuple[int, int, float]]
    mpp_xy: tuple[float, float]
    rgb_HWC: NDArray[np.uint8]
    mask_mpp_xy: tuple[float, float]
    own_HW: NDArray[np.bool_] | None

    def tiles(self, params: TilesParams, own_HW: NDArray[np.bool_] | None = None) -> Choice:
        """Its tiles with other params, or another mask. Raises `NoTiles`, and `SlideRefused` as `geometry_of` does."""
        mask = find_tissue(self.rgb_HWC, self.mask_mpp_xy, params.tissue, self.own_HW if own_HW is None else own_HW)
        return choose(geometry_of(self.levels, self.mpp_xy, params), mask, params)


def refusal(picture: Picture, params: TilesParams, found: NoTiles) -> SlideRefused:
    """The slide's refusal: the fewest changes of `params` that give it tiles, or why there are none."""
    remedies = _remedies(picture, params, found)
    for n in range(1, len(remedies) + 1):
        for some in itertools.combinations(remedies, n):
            changed = _changed(params, some)
            covered = any("min_coverage" in one.changes for one in some)
            more = None if covered else _more_coverage(picture, changed)
            if more is not None:
                some = (*some, more)
            if _helps(picture, _changed(params, some)):
                return SlideRefused("; ".join(one.why for one in some), fix=", and ".join(one.fix for one in some))
    what, fix = _nothing(picture, params)
    # A tile that does not fit is no tile, whatever is masked.
    fits = [one for one in remedies if "tile_px" in one.changes]
    larger = _changed(params, fits)
    if not _helps(picture, larger, np.ones(picture.rgb_HWC.shape[:2], bool)):
        fits.append(Remedy({}, "", "set tiles.min_stain to 0"))
    return SlideRefused(
        "; ".join([*(one.why for one in fits if one.why), what]), fix=", and ".join([fix, *(one.fix for one in fits)])
    )


def _remedies(picture: Picture, params: TilesParams, found: NoTiles) -> list[Remedy]:
    """What may help, the likeliest first."""
    geometry, remedies = geometry_of(picture.levels, picture.mpp_xy, params), list[Remedy]()
    fits_px = math.floor(min(n / s for n, s in zip(geometry.slide_l0, geometry.scale, strict=True)))
    if not len(lay(geometry, params.edge).corners()[0]) and SMALLEST_TILE_PX <= fits_px < params.tile_px:
        width, height = (n * mpp for n, mpp in zip(geometry.slide_l0, picture.mpp_xy, strict=True))
        tile_um = params.tile_px * params.target_mpp
        why = f"it is smaller than a tile: {width:.4g} x {height:.4g} um, and a tile is {tile_um:.4g} um wide"
        changes, fix = {"tile_px": fits_px}, f"lower tiles.tile_px to {fits_px}"
        if params.overlap_px >= fits_px:
            changes, fix = changes | {"overlap_px": 0}, f"{fix}, and tiles.overlap_px to 0"
        remedies.append(Remedy(changes, why, fix))
    if found.blank:
        why, least = f"all {found.blank} tiles with tissue are blank", math.floor(found.stain * 1e4) / 1e4
        remedies.append(Remedy({"min_stain": least}, why, f"lower tiles.min_stain to {least:g}"))
    if params.tissue.min_area_mm2 and picture.own_HW is None:
        why = f"no piece of tissue on it has {params.tissue.min_area_mm2:g} mm2"
        remedies.append(Remedy({"min_area_mm2": 0.0}, why, "lower tiles.tissue.min_area_mm2 to 0"))
    if params.tissue.exclude_pen:
        why, fix = (
            "all that is stained on it has the colour of ink",
            "if it is none, set tiles.tissue.exclude_pen to false",
        )
        remedies.append(Remedy({"exclude_pen": False}, why, fix))
    remedies += _coverage(found, params)
    return remedies


def _coverage(found: NoTiles, params: TilesParams) -> list[Remedy]:
    least = math.floor(found.coverage * 100) / 100
    if not 0 < least < params.tissue.min_coverage:
        return []
    why = f"no tile has enough tissue: the most is {found.coverage:.0%} of a tile"
    return [Remedy({"min_coverage": least}, why, f"lower tiles.tissue.min_coverage to {least:g}")]


def _more_coverage(picture: Picture, changed: TilesParams) -> Remedy | None:
    """What is still wanting after other remedies have shown tissue: a tile has too little of it."""
    try:
        picture.tiles(changed)
    except NoTiles as found:
        return next(iter(_coverage(found, changed)), None)
    except SlideRefused:
        return None
    return None


def _changed(params: TilesParams, remedies: Sequence[Remedy]) -> TilesParams:
    changes = {key: value for one in remedies for key, value in one.changes.items()}
    tissue = {key: value for key, value in changes.items() if key in type(params.tissue).model_fields}
    rest = {key: value for key, value in changes.items() if key not in tissue}
    return params.model_copy(update={**rest, "tissue": params.tissue.model_copy(update=tissue)})


def _helps(picture: Picture, params: TilesParams, own_HW: NDArray[np.bool_] | None = None) -> bool:
    try:
        picture.tiles(params, own_HW)
    except (NoTiles, SlideRefused):
        return False
    return True


def _nothing(picture: Picture, params: TilesParams) -> tuple[str, str]:
    """What the picture shows instead of stained tissue, and what to do about it."""
    if picture.own_HW is not None:
        return "its mask marks next to nothing", "draw the mask anew, or empty its cell in slides.csv"
    if dark_field(picture.rgb_HWC):
        what = "its background is dark, as in fluorescence or dark field: tissue is told by its stain on bright glass"
        return what, f"leave it out, or {_AS_A_MASK}"
    empty = "no tissue found: it looks like empty glass", f"leave it out; if there is tissue on it, {_AS_A_MASK}"
    if even(picture.rgb_HWC):
        return empty
    if without_colour(picture.rgb_HWC):
        return "it has no colour, and tissue is told by its stain", f"if there is tissue on it, {_AS_A_MASK}"
    if faint_stain(picture.rgb_HWC):
        return "its stain is too faint to be told from glass", _AS_A_MASK
    return empty
