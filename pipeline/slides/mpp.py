"""How large a pixel of a slide is: whom to believe, in which order."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.base.errors import SlideRefused
from pipeline.slides.ome import physical_size
from pipeline.slides.table import MPP_RANGE, Mpp, sane_mpp

TABLE_TOLERANCE = 0.05
"""A table's mpp within this of the slide's own says the same thing, more roughly."""
UM_TIMES_POWER = 10.0
"""A 20x objective usually gives 0.5 um/px, a 40x one 0.25: usually, so it is believed only when asked."""
_UM_PER_UNIT = {"centimeter": 10_000.0, "inch": 25_400.0}


def resolve_mpp(
    properties: Mapping[str, str], table: Mpp, name: str, size_px: tuple[int, int] = (0, 0)
) -> tuple[tuple[float, float], str]:
    """um per level-0 pixel (x, y), and who says so: `slide`, `ome`, `tiff` (resolution tags), `table` or `objective`.

    An OME-TIFF's own XML goes before the tags, which its writers leave at what their library puts there; `size_px` is
    level 0's, and says which of its images is the slide. The table is believed where the slide says nothing or
    nonsense, and where the two differ by more than 5 %. Where the table says nothing either, `"objective"` in its place
    takes 10 um / power (20x: 0.5). Raises `SlideRefused` where nobody says anything believable.
    """
    asked: tuple[tuple[tuple[float, float] | None, str], ...] = (
        (physical_size(properties.get("tiff.ImageDescription", ""), size_px), "ome"),
        (_pair(properties, "openslide.mpp-x", "openslide.mpp-y"), "slide"),
        (_tiff_resolution(properties), "tiff"),
    )
    own, source = next(((pair, who) for pair, who in asked if pair is not None), (None, ""))
    given = None if table == "objective" else table
    if own is not None and all(map(sane_mpp, own)):
        if given is None or all(abs(mpp / given - 1) <= TABLE_TOLERANCE for mpp in own):
            return own, source
        return (given, given), "table"
    if given is not None:
        return (given, given), "table"
    power = _pair(properties, "openslide.objective-power", "openslide.objective-power")
    if table == "objective" and power is not None and power[0] > 0 and sane_mpp(UM_TIMES_POWER / power[0]):
        return (UM_TIMES_POWER / power[0], UM_TIMES_POWER / power[0]), "objective"
    fix = "give its um per pixel in the mpp column of slides.csv (about 0.25 for 40x, 0.5 for 20x)"
    if power is not None and table is None:
        fix += f", or set slides.mpp_from_objective: its objective power is {power[0]:g}"
    if own is None:
        raise SlideRefused("no mpp in its metadata", where=name, fix=fix)
    what = f"mpp {own[0]:.4g} in its metadata is nonsense (not within {MPP_RANGE[0]} to {MPP_RANGE[1]})"
    raise SlideRefused(what, where=name, fix=fix)


def _tiff_resolution(properties: Mapping[str, str]) -> tuple[float, float] | None:
    """From the TIFF's pixels per unit, where it names a unit."""
    unit = _UM_PER_UNIT.get(properties.get("tiff.ResolutionUnit", ""))
    per_unit = _pair(properties, "tiff.XResolution", "tiff.YResolution")
    if unit is None or per_unit is None or min(per_unit) <= 0:
        return None
    return unit / per_unit[0], unit / per_unit[1]


def _pair(properties: Mapping[str, str], x: str, y: str) -> tuple[float, float] | None:
    try:
        return float(properties[x]), float(properties[y])
    except (KeyError, ValueError):
        return None
