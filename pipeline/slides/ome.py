"""How large a pixel is, by the XML of an OME-TIFF (OME model 2016-06): its first page's description."""

from __future__ import annotations

from xml.etree import ElementTree

UM_PER_UNIT = {
    "m": 1e6,
    "dm": 1e5,
    "cm": 1e4,
    "mm": 1e3,
    "\u00b5m": 1.0,
    "\u03bcm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "\u212b": 1e-4,
    "\u00c5": 1e-4,
    "in": 25_400.0,
}
"""Of lengths that a pixel has; micro sign and Greek mu are two characters. `pixel` and `reference frame` are none."""


def physical_size(description: str, size_px: tuple[int, int]) -> tuple[float, float] | None:
    """um per pixel (x, y) of the image of `size_px` (width, height), or the only one; None where it does not say."""
    if "<OME" not in description and ":OME" not in description:
        return None
    try:
        root = ElementTree.fromstring(description.encode())
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
    pixels = [element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"]
    same = [one for one in pixels if (one.get("SizeX"), one.get("SizeY")) == tuple(map(str, size_px))]
    chosen = (same or (pixels if len(pixels) == 1 else []))[:1]
    sizes = [_um(one.get(f"PhysicalSize{axis}"), one.get(f"PhysicalSize{axis}Unit")) for one in chosen for axis in "XY"]
    if len(sizes) < 2 or sizes[0] is None or sizes[1] is None:
        return None
    return sizes[0], sizes[1]


def _um(text: str | None, unit: str | None) -> float | None:
    """A length with its unit, by default um."""
    try:
        return float(text or "") * UM_PER_UNIT[unit or "um"]
    except (ValueError, KeyError):
        return None
