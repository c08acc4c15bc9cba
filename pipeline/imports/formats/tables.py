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
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.types import Array
from pipeline.imports.formats.feature_file import FeatureFile, Places, Rows, at_once, refused, require_matrix
from pipeline.imports.placing import SQUARE_WITHIN

_CHANNEL = re.compile(r"(?:[A-Za-z]+_?)?(\d+)")
SLIDE = ("slide", "slide_id")
LISTS = ("features", "embedding")
_ABOUT = "about"


def open_npz(path: Path, slide: str) -> FeatureFile:
    """Raises `SlideRefused`, and what numpy raises for what it cannot read."""
    with np.load(path) as file:
        if "features" not in file:
            raise refused(path, f"has no features, but {', '.join(sorted(file.files)) or 'nothing'}")
        features, told = file["features"], {name: file[name].item() for name in file.files if file[name].ndim == 0}
        names = next((file[name] for name in SLIDE if name in file and file[name].ndim == 1), None)
        corner_N2 = None
        if "coords" in file:
            corner_N2 = file["coords"].astype(np.float64)
        elif "x" in file and "y" in file:
            corner_N2 = np.stack([file["x"], file["y"]], 1).astype(np.float64)
    rows = Rows() if names is None else Rows.of_slide(path, names, slide)
    return _plain(path, features, corner_N2, told, rows)


def open_parquet(path: Path, slide: str) -> FeatureFile:
    """Raises `SlideRefused`, and what pyarrow raises for what it cannot read."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        columns = file.schema_arrow.names
        many = next((name for name in SLIDE if name in columns), None)
    table = pq.read_table(path, filters=None if many is None else [(many, "=", slide)])
    if not len(table):
        raise refused(path, f"has no row of a slide called {slide}", fix="is its slide_id as the file has it?")
    told = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    if _ABOUT in told:
        told |= _about(path, told[_ABOUT])
    named = next((name for name in LISTS if name in columns), None)
    if named is not None:
        lists = table[named].combine_chunks()
        flat = lists.flatten().to_numpy(zero_copy_only=False)
        features = flat.reshape(len(table), -1) if len(flat) % len(table) == 0 else flat
    else:
        channels = sorted((int(match[1]), name) for name in columns if (match := _CHANNEL.fullmatch(name)))
        if not channels:
            raise refused(path, f"has no column features, and none a channel, but {', '.join(columns[:8])}")
        features = np.stack([table[name].to_numpy() for _, name in channels], 1)
    corner_N2 = None
    if {"x", "y"} <= set(columns):
        corner_N2 = np.stack([table[name].to_numpy() for name in ("x", "y")], 1).astype(np.float64)
    return dataclasses.replace(_plain(path, features, corner_N2, told, Rows()), many=many is not None)


def _about(path: Path, text: str) -> dict[str, str]:
    """What `histill embed` says of its tiles and encoder, by the names that plain files have for it."""
    about = json.loads(text)
    width, height = float(about["tile_width_l0"]), float(about["tile_height_l0"])
    if abs(width / height - 1) > SQUARE_WITHIN:
        raise refused(path, f"is of tiles of {width:g} x {height:g} level-0 pixels, which are not square")
    return {"side_l0": str(width), "encoder": str(about["encoder"]), "patch_px": str(about["tile_px"])}


def _plain(
    path: Path, features: Array, corner_N2: NDArray[np.float64] | None, told: Mapping[str, object], rows: Rows
) -> FeatureFile:
    require_matrix(path, features.shape, features.dtype)
    if corner_N2 is not None and len(corner_N2) != len(features):
        raise refused(path, f"has {len(features)} rows of features, and {len(corner_N2)} coordinates")
    features = rows.of(features)
    by_um, by_l0 = told.get("side_um"), told.get("side_l0")
    side = by_l0 if by_um is None else by_um
    places = None
    if corner_N2 is not None:
        places = Places(
            rows.of(corner_N2),
            None if side is None else float(str(side)),
            side_unit="px" if by_um is None else "um",
        )
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
