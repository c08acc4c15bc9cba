"""A SpatialData store a slide, `<slide>.zarr`, in which wsidata and LazySlide find tiles and features.

    shapes/tiles            GeoParquet: tile_id, x, y, tissue_id, geometry (a box each, level-0 pixels)
    tables/<encoder>_tiles  AnnData: X float32 (N, D); obs tile_id, library_id; index str(tile_id)
    of the root             tile_spec.tiles: scale and size of the tiles, by which wsidata reads their pixels

`wsidata.open_wsi(SLIDE, store="<slide>.zarr")` opens it. Source: wsidata 0.12.0, io/_elems.py:59 and :94; spatialdata
0.7.3 (shapes 0.3, tables 0.2), anndata 0.12 (its on-disk specification in Zarr v3).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.base.types import Array, Json
from pipeline.embed.features import Features
from pipeline.embed.formats.place import Place
from pipeline.embed.formats.zarr_store import ZarrStore
from pipeline.embed.stamps import KEY

TILES = "tiles"
_SOFTWARE = "0.7.3"
_DICT: dict[str, Json] = {"encoding-type": "dict", "encoding-version": "0.1.0"}
_NUMBERS: dict[str, Json] = {"encoding-type": "array", "encoding-version": "0.2.0"}
_TEXTS: dict[str, Json] = {"encoding-type": "string-array", "encoding-version": "0.2.0"}
_EMPTY = ("layers", "obsm", "obsp", "varm", "varp")
_BOX = np.dtype([("order", "u1"), ("kind", "<u4"), ("rings", "<u4"), ("points", "<u4"), ("xy", "<f8", (5, 2))])
"""A polygon of one ring of five points as WKB."""


def paths(place: Place) -> tuple[PurePath, ...]:
    """One folder."""
    return (PurePath(f"{place.name}.zarr"),)


def table_name(features: Features) -> str:
    """The table's; of the letters that spatialdata takes."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', features.called)}_{TILES}"


def write(features: Features, partials: Sequence[Path], finals: Sequence[Path]) -> None:
    """The whole store."""
    attributes: dict[str, Json] = {
        "spatialdata_attrs": {"version": "0.2", "spatialdata_software_version": _SOFTWARE},
        "tile_spec": {TILES: _spec(features)},
        KEY: features.stamp_text,
    }
    store = ZarrStore(partials[0], attributes)
    _shapes(store, features, partials[0] / "shapes" / TILES / "shapes.parquet")
    _table(store, features, f"tables/{table_name(features)}")
    store.close()


def _spec(features: Features) -> dict[str, Json]:
    """How tiles lie: `base` is level 0, `ops` the level that is read, both by their downsample to a tile's pixels."""
    geometry, step_px = features.geometry, features.geometry.tile_px - features.overlap_px
    own = geometry.level < len(features.slide.levels)
    return {
        "height": geometry.tile_px,
        "width": geometry.tile_px,
        "stride_height": step_px,
        "stride_width": step_px,
        "mpp": features.tile_mpp,
        "ops_level": geometry.level if own else 0,
        "ops_downsample": geometry.size_px[0] / geometry.tile_px if own else geometry.scale[0],
        "base_level": 0,
        "base_downsample": geometry.scale[0],
        "tissue_name": "tissues",
    }


def _shapes(store: ZarrStore, features: Features, file: Path) -> None:
    axes: list[Json] = [{"name": name, "type": "space", "unit": "unit"} for name in "xy"]
    store.group("shapes", {})
    store.group(
        f"shapes/{TILES}",
        {
            "encoding-type": "ngff:shapes",
            "axes": ["x", "y"],
            "coordinateTransformations": [
                {"type": "identity", "input": {"name": "xy", "axes": axes}, "output": {"name": "global", "axes": axes}}
            ],
            "spatialdata_attrs": {"version": "0.3"},
        },
    )
    n, (width, height) = len(features), features.geometry.size_l0
    corner_N2 = features.corner_N2.astype(np.float64)
    ring_52 = np.array([[width, 0], [width, height], [0, height], [0, 0], [width, 0]])
    boxes_N = np.empty(n, _BOX)
    boxes_N["order"], boxes_N["kind"], boxes_N["rings"], boxes_N["points"] = 1, 3, 1, 5
    boxes_N["xy"] = corner_N2[:, None] + ring_52
    (left, top), (right, bottom) = corner_N2.min(0), corner_N2.max(0) + np.array([width, height])
    column: Json = {
        "encoding": "WKB",
        "crs": None,
        "geometry_types": ["Polygon"],
        "bbox": [float(left), float(top), float(right), float(bottom)],
    }
    told: Json = {"primary_column": "geometry", "columns": {"geometry": column}, "version": "1.1.0"}
    columns = {
        "tile_id": pa.array(np.arange(n)),
        "x": pa.array(features.corner_N2[:, 0]),
        "y": pa.array(features.corner_N2[:, 1]),
        "tissue_id": pa.array(np.zeros(n, np.int64)),
        "geometry": pa.array([box.tobytes() for box in boxes_N], pa.binary()),
    }
    pq.write_table(pa.table(columns).replace_schema_metadata({"geo": json.dumps(told)}), file)


def _table(store: ZarrStore, features: Features, path: str) -> None:
    n = len(features)
    region: dict[str, Json] = {"region": TILES, "region_key": "library_id", "instance_key": "tile_id"}
    anndata: dict[str, Json] = {"encoding-type": "anndata", "encoding-version": "0.1.0"}
    store.group("tables", {})
    store.group(path, {**anndata, "spatialdata-encoding-type": "ngff:regions_table", "version": "0.2", **region})
    store.array(f"{path}/X", features.answer.embedding_ND, _NUMBERS)
    _frame(store, f"{path}/obs", [str(i) for i in range(n)], ("tile_id", "library_id"))
    store.array(f"{path}/obs/tile_id", np.arange(n), _NUMBERS)
    categorical: dict[str, Json] = {"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False}
    store.group(f"{path}/obs/library_id", categorical)
    codes: Array = np.zeros(n, np.int8)
    store.array(f"{path}/obs/library_id/codes", codes, _NUMBERS)
    store.array(f"{path}/obs/library_id/categories", [TILES], _TEXTS)
    _frame(store, f"{path}/var", [str(i) for i in range(features.encoder.width)], ())
    for name in _EMPTY:
        store.group(f"{path}/{name}", _DICT)
    store.group(f"{path}/uns", _DICT)
    store.group(f"{path}/uns/spatialdata_attrs", _DICT)
    for name, value in region.items():
        told: dict[str, Json] = {"encoding-type": "string", "encoding-version": "0.2.0"}
        store.text(f"{path}/uns/spatialdata_attrs/{name}", str(value), told)


def _frame(store: ZarrStore, path: str, index: Sequence[str], columns: Sequence[str]) -> None:
    frame: dict[str, Json] = {"encoding-type": "dataframe", "encoding-version": "0.2.0"}
    store.group(path, {**frame, "_index": "_index", "column-order": list(columns)})
    store.array(f"{path}/_index", index, _TEXTS)
