"""Tiles as QuPath reads them: a GeoJSON FeatureCollection of tile objects, in level-0 pixels of what was scanned.

By its source (qupath-core, qupath/lib/io/QuPathTypeAdapters.java, and PathObjectTypeAdapters.java before 0.4.2), of a
Feature it reads `geometry`, and of its `properties` `objectType` (tile, annotation, …), `name`, `color` ([r, g, b]),
`classification` (`name`, `color`), `isLocked` and `measurements`: an object of numbers since 0.4.0, a list before it.
All of these are cast to Double, so what is no number is left out here, NaN too, which JSON has not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.base.files import write_atomic
from pipeline.base.types import Json


def tile_object(
    corner_l0: tuple[int, int], size_l0: tuple[float, float], measurements: Mapping[str, float], **properties: Json
) -> Json:
    """A tile as a Feature: a rectangle, with those of its measurements that are numbers, and what else QuPath has a
    property for."""
    finite: dict[str, Json] = {name: value for name, value in measurements.items() if math.isfinite(value)}
    x, y = corner_l0
    right, bottom = round(x + size_l0[0], 2), round(y + size_l0[1], 2)
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]]},
        "properties": {"objectType": "tile", **properties, "measurements": finite},
    }


def write_objects(path: Path, objects: Iterable[Json]) -> None:
    """The file to drop onto the open slide."""
    write_atomic(path, json.dumps({"type": "FeatureCollection", "features": list(objects)}, allow_nan=False).encode())
