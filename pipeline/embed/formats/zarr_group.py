"""A Zarr v3 group a slide, `<slide>.zarr`, that `xarray.open_zarr` opens as one data set with its coordinates in it.

features  float32 (tile, channel)
x, y      int64 (tile), top left corners in level-0 pixels: coordinates
tissue    float32 (tile), share of the tile that is tissue: a coordinate
patch     (tile, token, channel), where patch tokens are asked for; of int8 scale (tile, token) too: patch_form.py
of the group: scale and size of tiles and slide, the encoder, the stamp
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

from pipeline.embed.features import Features
from pipeline.embed.formats.place import Place
from pipeline.embed.formats.zarr_store import ZarrStore
from pipeline.embed.patch_form import PATCH
from pipeline.embed.stamps import KEY


def paths(place: Place) -> tuple[PurePath, ...]:
    """One folder."""
    return (PurePath(f"{place.name}.zarr"),)


def write(features: Features, partials: Sequence[Path], finals: Sequence[Path]) -> None:
    """All tiles in chunks of some megabytes."""
    attributes = {**features.about(), "coordinates": "x y tissue", KEY: features.stamp_text}
    store = ZarrStore(partials[0], attributes)
    store.array("features", features.embedding_ND, names=("tile", "channel"))
    for axis, name in enumerate(("x", "y")):
        unit = {"units": "level-0 pixel", "long_name": f"{name} of the tile's top left corner"}
        store.array(name, features.corner_N2[:, axis], unit, names=("tile",))
    store.array("tissue", features.tissue_N, {"long_name": "share of the tile that is tissue"}, names=("tile",))
    if features.patch is not None:
        tokens = features.patch
        for array, (shape, dtype) in tokens.form.arrays.items():
            of = (len(features), *shape), str(dtype), tokens.part(array)
            told = tokens.form.attributes if array == PATCH else {}
            names = ("tile", "token", "channel")[: 1 + len(shape)]
            store.parts(array, tokens.parts(array), of, told, names=names)
    store.close()
