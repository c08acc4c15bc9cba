"""Anybody's `.npz` and `.parquet`: features, and x and y of the tiles' corners in level-0 pixels.

npz      features (N, D); coords (N, 2), or x and y (N,); slide (N,) where it holds many slides; encoder, side_l0,
         side_um, patch_px where it says so
parquet  a column `features` of lists, or one a channel (`0`, `1` …, `feature_0`, …); x, y; slide; the same in the
         file's metadata; `histill embed`'s own, whose column is `embedding` and whose metadata `about`
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.base.types import Array
from pipeline.imports.formats.feature_file import (
    FeatureFile,
    Places,
    Rows,
    at_once,
    refused,
    require_matrix,
    require_places,
    side_told,
)
from pipeline.imports.placing import SQUARE_WITHIN

_CHANNEL = re.compile(r"((?:[A-Za-z]+_?)?)(\d+)")
SLIDE = ("slide", "slide_id")
LISTS = ("features", "embedding")
_ABOUT = "about"


def open_npz(path: Path, slide: str) -> FeatureFile:
    """Raises `SlideRefused`, and what numpy raises for what it cannot read."""
    with np.load(path) as file:
        if "features" not in file:
            raise refused(path, f"has no features, but {', '.join(sorted(file.files)) or 'nothing'}")
        features, told = file["features"], {name: file[name].item() for name in file.files if file[name].size == 1}
        names = next((file[name] for name in SLIDE if name in file), None)
        corner_N2 = None
        if "coords" in file:
            corner_N2 = file["coords"]
        elif "x" in file and "y" in file:
            corner_N2 = np.stack([np.ravel(file[name]) for name in ("x", "y")], 1)
    require_matrix(path, features.shape, features.dtype)
    rows = Rows() if names is None else Rows.of_slide(path, names, slide, len(features))
    return _plain(path, features, corner_N2, told, rows)


def open_parquet(path: Path, slide: str) -> FeatureFile:
    """Raises `SlideRefused`, and what pyarrow raises for what it cannot read."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        columns = file.schema_arrow.names
        many = next((name for name in SLIDE if name in columns), None)
    table = pq.read_table(path, filters=None if many is None else [(many, "=", slide)])
    if many is not None:
        # Raises where there is none.
        Rows.of_slide(path, np.array([slide] * len(table), str), slide, len(table))
    told = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    if _ABOUT in told:
        told |= _about(path, told[_ABOUT])
    named = next((name for name in LISTS if name in columns), None)
    if named is not None:
        features = _of_lists(path, table[named])
    else:
        features = np.stack([table[name].to_numpy() for name in _channels(path, columns)], 1)
    corner_N2: Array | None = None
    if {"x", "y"} <= set(columns):
        corner_N2 = np.stack([table[name].to_numpy() for name in ("x", "y")], 1)
    return dataclasses.replace(_plain(path, features, corner_N2, told, Rows()), many=many is not None)


def _of_lists(path: Path, column: pa.ChunkedArray) -> Array:
    """A list a row, all of them equally long, as (N, D)."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column)
    if column.null_count or len(pc.unique(lengths)) > 1:
        raise refused(
            path, f"has lists of {pc.min(lengths)} to {pc.max(lengths)} features, and {column.null_count} none"
        )
    flat: Array = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1)


def _channels(path: Path, columns: Sequence[str]) -> list[str]:
    """The columns of a channel each, in order: one name and whole numbers, from 0 or 1 on, without a gap."""
    kinds: dict[str, dict[int, str]] = {}
    for name in columns:
        if match := _CHANNEL.fullmatch(name):
            kinds.setdefault(match[1], {})[int(match[2])] = name
    if not kinds:
        raise refused(path, f"has no column features, and none a channel, but {', '.join(columns[:8])}")
    found = max(kinds.values(), key=len)
    if sorted(found) not in (list(range(len(found))), list(range(1, len(found) + 1))):
        gap = next(i for i in range(min(found), max(found) + 2) if i not in found)
        raise refused(path, f"has {len(found)} columns like {found[min(found)]}, and none of number {gap}")
    return [found[number] for number in sorted(found)]


def _about(path: Path, text: str) -> dict[str, str]:
    """What `histill embed` says of its tiles and encoder, by the names that plain files have for it."""
    about = json.loads(text)
    width, height = float(about["tile_width_l0"]), float(about["tile_height_l0"])
    if abs(width / height - 1) > SQUARE_WITHIN:
        raise refused(path, f"is of tiles of {width:g} x {height:g} level-0 pixels, which are not square")
    return {"side_l0": str(width), "encoder": str(about["encoder"]), "patch_px": str(about["tile_px"])}


def _plain(path: Path, features: Array, corner_N2: Array | None, told: Mapping[str, object], rows: Rows) -> FeatureFile:
    require_matrix(path, features.shape, features.dtype)
    if corner_N2 is not None:
        require_places(path, corner_N2.shape, corner_N2.dtype, len(features))
    features = rows.of(features)
    side, unit = side_told(path, told)
    places = None
    if corner_N2 is not None:
        places = Places(rows.of(corner_N2).astype(np.float64), side, side_unit=unit)
    encoder, patch_px = told.get("encoder"), told.get("patch_px")
    return FeatureFile(
        path=path,
        tool="plain",
        encoder=None if encoder is None else str(encoder),
        dtype=str(features.dtype),
        n=len(features),
        width=features.shape[1],
        places=places,
        pieces=lambda seen: at_once(path, lambda: features, seen),
        patch_px=None if patch_px is None else int(str(patch_px)),
        many=rows.at_N is not None,
    )
