"""Where a file's rows lie on its slide, in level-0 pixels, and whether that agrees with itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import SlideRefused
from pipeline.imports.formats.feature_file import Places

SQUARE_WITHIN = 0.01
STEP_WITHIN = 0.05
"""How near to a whole number of steps neighbours lie, whatever was rounded."""
_ENOUGH = 16
"""Neighbours in a row, before anything is said of their distance."""


@dataclass(frozen=True)
class Placed:
    """`corner_N2` float64 and `side` in level-0 pixels."""

    corner_N2: NDArray[np.float64]
    side: float


def needs_mpp(places: Places) -> bool:
    """Whether the slide's own scale is needed to say where they are."""
    return "um" in (places.unit, places.side_unit)


def placed(places: Places, side: float | None, mpp_xy: tuple[float, float] | None) -> Placed:
    """In level-0 pixels, `mpp_xy` um each, which only places in micrometres need; `side` where the file has none.

    Raises `SlideRefused` where nobody says how large a tile is, a number is none, or pixels are not square and that
    would matter.
    """
    corner_N2, own = places.corner_N2, places.side
    if needs_mpp(places):
        assert mpp_xy is not None
        if abs(mpp_xy[0] / mpp_xy[1] - 1) > SQUARE_WITHIN:
            raise SlideRefused("its pixels are not square, and its features are of square tiles in micrometres")
    if own is not None and places.side_unit == "um" and mpp_xy is not None:
        own = own / mpp_xy[0]
    if places.unit == "um" and mpp_xy is not None:
        corner_N2 = corner_N2 / np.array(mpp_xy)
    own = side if own is None else own
    if own is None:
        fix = "give --tile-l0 (level-0 pixels) or --tile-um (micrometres), or the folder of its coordinates: --coords"
        raise SlideRefused("nothing says how large a tile of its features is", fix=fix)
    if not (np.isfinite(own) and own >= 1):
        what = f"its features are of tiles {own:g} level-0 pixels wide, by what their file says"
        raise SlideRefused(what, fix="extract them again, or correct what the file says of its tiles")
    if not np.isfinite(corner_N2).all():
        row = int(np.flatnonzero(~np.isfinite(corner_N2).all(1))[0])
        raise SlideRefused(f"the place of row {row} of its features is no number", fix="extract them again")
    return Placed(corner_N2 - own / 2 if places.centred else corner_N2, own)


def require_apart(found: Placed) -> None:
    """Raise `SlideRefused` where most rows lie where another one does: then they are no tiles' places."""
    n, places = len(found.corner_N2), len(np.unique(np.rint(found.corner_N2), axis=0))
    if 2 * places <= n and n > 1:
        what = f"its features lie at {places} place{'s' * (places > 1)}, and have {n} rows"
        raise SlideRefused(what, fix="give the coordinates that they were extracted at")


def require_step(found: Placed, overlap: float) -> None:
    """Raise `SlideRefused` where tiles do not lie as far apart as their size and overlap say.

    That is so where features were extracted at another patch size or scale than the attributes that were kept.
    """
    apart = _apart(found.corner_N2)
    expected = found.side * (1 - overlap)
    if apart is None or expected <= 0:
        return
    steps = apart / expected
    if round(steps) < 1 or abs(steps / round(steps) - 1) > STEP_WITHIN:
        what = f"its coordinates lie {apart:g} px apart, and the file says that a tile is {found.side:g} px wide"
        what += f" with an overlap of {overlap * found.side:g}" if overlap else " without overlap"
        fix = "its features are of another patch size or scale than it says: extract them again"
        raise SlideRefused(what, fix=fix)


def _apart(corner_N2: NDArray[np.float64]) -> float | None:
    """The most frequent distance of neighbours in a row of tiles, whole pixels; None where there are few of them."""
    whole_N2 = np.rint(corner_N2).astype(np.int64)
    whole_N2 = whole_N2[np.lexsort((whole_N2[:, 0], whole_N2[:, 1]))]
    same_row = np.diff(whole_N2[:, 1]) == 0
    found = np.diff(whole_N2[:, 0])[same_row]
    found = found[found > 0]
    if len(found) < _ENOUGH:
        return None
    return float(Counter(found.tolist()).most_common(1)[0][0])
