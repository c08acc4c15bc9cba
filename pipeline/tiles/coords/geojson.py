"""Tiles as QuPath reads them: a GeoJSON FeatureCollection of tile objects, in level-0 pixels of what was scanned."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pipeline.base.files import write_atomic
from pipeline.base.types import Json


def tile_object(
    corner_l0: tuple[int, int], size_l0: tuple[float, float], measurements: dict[str, Json], **properties: Json
) -> Json:
    """A tile as a Feature: a rectangle, with its measurements and what else QuPath has a property for."""
    x, y = corner_l0
    right, bottom = round(x + size_l0[0], 2), round(y + size_l0[1], 2)
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]]},
        "properties": {"objectType": "tile", **properties, "measurements": measurements},
    }


def write_objects(path: Path, objects: Iterable[Json]) -> None:
    """The file to drop onto the open slide."""
    write_atomic(path, json.dumps({"type": "FeatureCollection", "features": list(objects)}).encode())
