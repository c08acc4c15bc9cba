"""An AnnData file a slide, `<slide>.h5ad`: X the features, a row a tile.

    X               float32 (N, D)
    obs             tile_id, x, y (level-0 pixels, top left), tissue; index: str(tile_id)
    obsm/spatial    float64 (N, 2), centres in level-0 pixels, where squidpy and LazySlide look
    uns             scale and size of tiles and slide, the encoder

Written by h5py as anndata 0.12 writes it (its on-disk specification: dataframe 0.2.0, dict 0.1.0, array 0.2.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

import h5py
import numpy as np

from pipeline.base.types import Array
from pipeline.embed.features import Features
from pipeline.embed.formats.place import Place
from pipeline.embed.stamps import KEY

_NONE = ("layers", "varm", "obsp", "varp")


def paths(place: Place) -> tuple[PurePath, ...]:
    """One file."""
    return (PurePath(f"{place.name}.h5ad"),)


def centres(features: Features) -> Array:
    """Of the tiles, float64 (N, 2), level-0 pixels."""
    centre_N2: Array = features.corner_N2 + np.array(features.geometry.size_l0) / 2
    return centre_N2


def write(features: Features, partials: Sequence[Path], finals: Sequence[Path]) -> None:
    """By the specification, without anndata."""
    n = len(features)
    with h5py.File(partials[0], "w") as file:
        _tell(file, "anndata", "0.1.0")
        file.attrs[KEY] = features.stamp_text
        _array(file, "X", features.answer.embedding_ND)
        columns: dict[str, Array] = {
            "tile_id": np.arange(n, dtype=np.int64),
            "x": features.corner_N2[:, 0],
            "y": features.corner_N2[:, 1],
            "tissue": features.tissue_N,
        }
        _frame(file, "obs", [str(i) for i in range(n)], columns)
        _frame(file, "var", [str(i) for i in range(features.encoder.width)], {})
        _tell(file.create_group("obsm"), "dict", "0.1.0")
        _array(file["obsm"], "spatial", centres(features))
        for name in _NONE:
            _tell(file.create_group(name), "dict", "0.1.0")
        _tell(file.create_group("uns"), "dict", "0.1.0")
        for key, value in features.about().items():
            if isinstance(value, str):
                file["uns"].create_dataset(key, data=value, dtype=h5py.string_dtype())
                _tell(file["uns"][key], "string", "0.2.0")
            else:
                file["uns"][key] = value
                _tell(file["uns"][key], "numeric-scalar", "0.2.0")


def _frame(file: h5py.Group, name: str, index: Sequence[str], columns: Mapping[str, Array]) -> None:
    frame = file.create_group(name)
    _tell(frame, "dataframe", "0.2.0")
    frame.attrs["_index"] = "_index"
    frame.attrs.create("column-order", list(columns), dtype=h5py.string_dtype())
    frame.create_dataset("_index", data=list(index), dtype=h5py.string_dtype())
    _tell(frame["_index"], "string-array", "0.2.0")
    for key, values in columns.items():
        _array(frame, key, values)


def _array(group: h5py.Group, name: str, values: Array) -> None:
    group.create_dataset(name, data=values)
    _tell(group[name], "array", "0.2.0")


def _tell(node: h5py.Group | h5py.Dataset, kind: str, version: str) -> None:
    node.attrs["encoding-type"], node.attrs["encoding-version"] = kind, version
