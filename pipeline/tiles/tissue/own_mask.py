"""A slide's own tissue mask, made elsewhere: polygons (GeoJSON as QuPath exports it) or a picture of the whole slide.

**GeoJSON**: coordinates in pixels of level 0, counted from the corner of what was scanned where a slide says where that
is (`openslide.bounds-x`, `-y`: MIRAX, Leica and others), since QuPath shows no more of it. A FeatureCollection, an
array of features, a feature or a bare geometry; Polygon and MultiPolygon count (their holes too), points and lines do
not. A class whose name ends in an asterisk (`Ignore*`) is left out, as in QuPath itself.

**Picture** (PNG, TIFF, …): covers the whole slide at any scale, or what was scanned of it where only that has its
proportions; what is neither 0 nor transparent is tissue (tiles/mask_values.py). HistoQC's `_mask_use.png` is one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.base.errors import SlideRefused
from pipeline.cluster.refusals import from_content
from pipeline.tiles.mask_values import marked

JSON_SUFFIXES = frozenset({".geojson", ".json"})
ASPECT_TOLERANCE = 0.02
"""A picture whose sides are in another proportion than the slide's is not of the whole slide."""
MAX_JSON_NBYTES, MAX_PICTURE_PX = 32 << 20, 1 << 25
"""Parsed coordinates take ten times their text, a picture's pixels up to 16 bytes each: a third of a GiB, and half."""
BEYOND = 0.02
"""By so much of the scanned sides an outline may leave them; beyond, it is counted from elsewhere."""
Box = tuple[int, int, int, int]
"""x, y, width, height."""
_OVERSAMPLE = 3
"""Odd, and the pixel by which Pillow draws outlines too wide is then less than half of one here."""


def load_mask(
    path: Path, slide_l0: tuple[int, int], size_px: tuple[int, int], scanned_l0: Box | None = None
) -> NDArray[np.bool_]:
    """The mask on a picture of `size_px` (width, height) of a slide of `slide_l0` pixels, (height, width) bool.

    `scanned_l0` is `SlideReader.bounds`. A pixel is tissue where at least half of it is. Raises `SlideRefused`
    where the file cannot be read, holds nothing or cannot be of this slide.
    """
    scanned = scanned_l0 or (0, 0, *slide_l0)
    try:
        if path.suffix.lower() in JSON_SUFFIXES:
            if path.stat().st_size > MAX_JSON_NBYTES:
                raise ValueError(
                    f"more than {MAX_JSON_NBYTES >> 20} MiB of polygons: export the tissue's outline alone"
                )
            share_HW = _drawn(_polygons(json.loads(path.read_text(encoding="utf-8-sig"))), slide_l0, size_px, scanned)
        else:
            share_HW = _picture(path, slide_l0, size_px, scanned)
    except Exception as error:
        if not from_content(error):
            raise
        # A mask is somebody else's file: whatever it makes a parser raise, it is this slide's alone.
        fix = (
            "GeoJSON polygons as QuPath exports them, or a PNG or TIFF of the whole slide (0 is glass, 8 bits a pixel)"
        )
        raise SlideRefused(f"its mask {path.name} cannot be read: {error}", fix=fix) from None
    mask_HW: NDArray[np.bool_] = share_HW >= 0.5
    if not mask_HW.any():
        fix = "is it of this slide? polygons are in level-0 pixels; in a picture what is not 0 is tissue"
        raise SlideRefused(f"its mask {path.name} marks nothing on the slide", fix=fix)
    return mask_HW


def fits_both(path: Path, slide_l0: tuple[int, int], scanned_l0: Box | None) -> bool:
    """Whether a mask is a picture that has the proportions of the slide, and those of what was scanned of it too."""
    if path.suffix.lower() in JSON_SUFFIXES or scanned_l0 is None or scanned_l0 == (0, 0, *slide_l0):
        return False
    with Image.open(path) as image:
        return _proportioned(image.size, slide_l0) and _proportioned(image.size, scanned_l0[2:])


def _picture(path: Path, slide_l0: tuple[int, int], size_px: tuple[int, int], scanned: Box) -> NDArray[np.float32]:
    """Share of each pixel that is marked; a picture in the proportions of what was scanned alone is of that."""
    with Image.open(path) as image:
        width, height = image.size
        if width * height > MAX_PICTURE_PX:
            raise ValueError(f"{width} x {height} px are more than a mask needs: make it smaller")
        x, y = 0, 0
        whole_px = size_px
        if not _proportioned(image.size, slide_l0):
            if not _proportioned(image.size, scanned[2:]):
                raise ValueError(f"{width} x {height} px are not the proportions of {slide_l0[0]} x {slide_l0[1]} px")
            x, y, right, bottom = (
                round(at * size_px[i % 2] / slide_l0[i % 2])
                for i, at in enumerate((*scanned[:2], scanned[0] + scanned[2], scanned[1] + scanned[3]))
            )
            whole_px = max(1, right - x), max(1, bottom - y)
        set_HW = Image.fromarray(marked(image).astype(np.float32))
    share_HW = np.zeros(size_px[::-1], np.float32)
    part_HW = np.asarray(set_HW.resize(whole_px, Image.Resampling.BOX), np.float32)
    inside_HW = share_HW[y : y + whole_px[1], x : x + whole_px[0]]
    inside_HW[:] = part_HW[: inside_HW.shape[0], : inside_HW.shape[1]]
    return share_HW


def _proportioned(size_px: tuple[int, int], whole: tuple[int, int]) -> bool:
    ratio = size_px[0] / size_px[1] / (whole[0] / whole[1])
    return abs(ratio - 1) <= ASPECT_TOLERANCE + 1 / min(size_px)


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
        told, geometry = found.get("properties"), found.get("geometry")
        ignored = _class_name(told.get("classification") if isinstance(told, dict) else None).endswith("*")
        return [] if ignored or geometry is None else _polygons(geometry)
    if kind == "Polygon":
        return [found["coordinates"]] if any(found["coordinates"]) else []
    return [polygon for polygon in found["coordinates"] if any(polygon)] if kind == "MultiPolygon" else []


def _class_name(classification: Any) -> str:
    """Of an object's class, as QuPath's versions and others write it: {name}, {names}, a name, or nothing."""
    if isinstance(classification, dict):
        names = classification.get("names") or [classification.get("name")]
        names = names if isinstance(names, list) else [names]
        return ": ".join(str(name) for name in names if name is not None)
    return "" if classification is None else str(classification)


def _drawn(
    polygons: list[Any], slide_l0: tuple[int, int], size_px: tuple[int, int], scanned: Box
) -> NDArray[np.float32]:
    """Share of each pixel that the polygons cover, (H, W), by drawing them finer. Overlaps are joined."""
    if not polygons:
        raise ValueError("it holds no polygon")
    outlines = [[np.array([p[:2] for p in ring], float) for ring in polygon] for polygon in polygons]
    if not all(np.isfinite(ring).all() for rings in outlines for ring in rings):
        raise ValueError("a coordinate is no number")
    reach = np.max([rings[0].max(0) for rings in outlines], axis=0)
    if scanned[2:] != slide_l0 and (reach > np.array(scanned[2:]) * (1 + BEYOND)).any():
        what = f"a polygon reaches to {reach[0]:g}, {reach[1]:g}, and {scanned[2]} x {scanned[3]} px were scanned: "
        raise ValueError(what + f"coordinates count from there, as in QuPath; take {scanned[0]}, {scanned[1]} off")
    width, height = size_px[0] * _OVERSAMPLE, size_px[1] * _OVERSAMPLE
    union_HW = np.zeros((height, width), bool)
    for outline in outlines:
        # Pillow draws on the centres of pixels.
        rings = [(ring + scanned[:2]) * (width, height) / slide_l0 - 0.5 for ring in outline]
        left, top = np.clip(np.floor(rings[0].min(0)), 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(rings[0].max(0)) + 1, 0, (width, height)).astype(int)
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
