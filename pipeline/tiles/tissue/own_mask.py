"""A slide's own tissue mask, made elsewhere: polygons (GeoJSON as QuPath exports it) or a picture of the whole slide.

**GeoJSON**: coordinates in pixels of level 0. A FeatureCollection, an array of features, a feature or a bare geometry;
Polygon and MultiPolygon count (their holes too), points and lines do not. A class whose name ends in an asterisk
(`Ignore*`) is left out, as in QuPath itself.

**Picture** (PNG, TIFF, …): covers the whole slide at any scale; what is not 0 is tissue. HistoQC's `_mask_use.png` is
one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.base.errors import SlideRefused

JSON_SUFFIXES = frozenset({".geojson", ".json"})
ASPECT_TOLERANCE = 0.02
"""A picture whose sides are in another proportion than the slide's is not of the whole slide."""
MAX_JSON_NBYTES, MAX_PICTURE_PX = 32 << 20, 1 << 25
"""Parsed coordinates take ten times their text, a picture's pixels up to 16 bytes each: a third of a GiB, and half."""
_OVERSAMPLE = 3
"""Odd, and the pixel by which Pillow draws outlines too wide is then less than half of one here."""


def load_mask(path: Path, slide_l0: tuple[int, int], size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask on a picture of `size_px` (width, height) of a slide of `slide_l0` pixels, (height, width) bool.

    A pixel is tissue where at least half of it is. Raises `SlideRefused` where the file cannot be read, holds nothing
    or cannot be of this slide.
    """
    try:
        if path.suffix.lower() in JSON_SUFFIXES:
            if path.stat().st_size > MAX_JSON_NBYTES:
                raise ValueError(
                    f"more than {MAX_JSON_NBYTES >> 20} MiB of polygons: export the tissue's outline alone"
                )
            share_HW = _drawn(_polygons(json.loads(path.read_text(encoding="utf-8"))), slide_l0, size_px)
        else:
            share_HW = _picture(path, slide_l0, size_px)
    except (OSError, ValueError, TypeError, KeyError, IndexError, Image.DecompressionBombError) as error:
        fix = "GeoJSON polygons in level-0 pixels, or a PNG or TIFF of the whole slide (0 is glass)"
        raise SlideRefused(f"its mask {path.name} cannot be read: {error}", fix=fix) from None
    mask_HW: NDArray[np.bool_] = share_HW >= 0.5
    if not mask_HW.any():
        fix = "is it of this slide? polygons are in level-0 pixels; in a picture what is not 0 is tissue"
        raise SlideRefused(f"its mask {path.name} marks nothing on the slide", fix=fix)
    return mask_HW


def _picture(path: Path, slide_l0: tuple[int, int], size_px: tuple[int, int]) -> NDArray[np.float32]:
    with Image.open(path) as image:
        width, height = image.size
        if width * height > MAX_PICTURE_PX:
            raise ValueError(f"{width} x {height} px are more than a mask needs: make it smaller")
        if abs(width / height / (slide_l0[0] / slide_l0[1]) - 1) > ASPECT_TOLERANCE + 1 / min(width, height):
            raise ValueError(f"{width} x {height} px are not the proportions of {slide_l0[0]} x {slide_l0[1]} px")
        value_HW = np.asarray(image if image.mode in ("1", "L", "I", "I;16", "F") else image.convert("L"))
    set_HW = Image.fromarray((value_HW != 0).astype(np.float32))
    return np.asarray(set_HW.resize(size_px, Image.Resampling.BOX), np.float32)


def _polygons(found: Any) -> list[Any]:
    """Every polygon's rings, the outline first and then its holes."""
    if isinstance(found, list):
        return [polygon for feature in found for polygon in _polygons(feature)]
    kind = found["type"]
    if kind == "FeatureCollection":
        return _polygons(found["features"])
    if kind == "GeometryCollection":
        return _polygons(found["geometries"])
    if kind == "Feature":
        classification = (found.get("properties") or {}).get("classification") or {}
        ignored = str(classification.get("name", "")).endswith("*")
        return [] if ignored or found["geometry"] is None else _polygons(found["geometry"])
    if kind == "Polygon":
        return [found["coordinates"]]
    return list(found["coordinates"]) if kind == "MultiPolygon" else []


def _drawn(polygons: list[Any], slide_l0: tuple[int, int], size_px: tuple[int, int]) -> NDArray[np.float32]:
    """Share of each pixel that the polygons cover, (H, W), by drawing them finer. Overlaps are joined."""
    if not polygons:
        raise ValueError("it holds no polygon")
    width, height = size_px[0] * _OVERSAMPLE, size_px[1] * _OVERSAMPLE
    union_HW = np.zeros((height, width), bool)
    for polygon in polygons:
        # Pillow draws on the centres of pixels.
        rings = [np.array([p[:2] for p in ring], float) * (width, height) / slide_l0 - 0.5 for ring in polygon]
        left, top = np.maximum(np.floor(rings[0].min(0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(rings[0].max(0)) + 1, (width, height)).astype(int)
        if right <= left or bottom <= top:
            continue
        canvas = Image.new("1", (int(right - left), int(bottom - top)))
        draw = ImageDraw.Draw(canvas)
        for i, ring in enumerate(rings):
            if len(ring) >= 3:
                draw.polygon([(float(x), float(y)) for x, y in ring - (left, top)], fill=int(i == 0))
        union_HW[top:bottom, left:right] |= np.asarray(canvas)
    shape = (size_px[1], _OVERSAMPLE, size_px[0], _OVERSAMPLE)
    share_HW: NDArray[np.float32] = union_HW.reshape(shape).mean((1, 3), dtype=np.float32)
    return share_HW
