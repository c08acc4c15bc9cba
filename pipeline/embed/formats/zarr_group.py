"""A Zarr v3 group a slide, `<slide>.zarr`, that `xarray.open_zarr` opens as one data set with its coordinates in it.

features  float32 (tile, channel)
x, y      int64 (tile), top left corners in level-0 pixels: coordinates
tissue    float32 (tile), share of the tile that is tissue: a coordinate
patch     float16 (tile, token, channel), where patch tokens are asked for; its attribute grid is (h, w), row-major
of the group: scale and size of tiles and slide, the encoder, the stamp
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

from pipeline.embed.features import Features
from pipeline.embed.formats.place import Place
from pipeline.embed.formats.zarr_store import ZarrStore
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
        tokens, told = features.patch, {"grid": list(features.patch.grid)}
        names = ("tile", "token", "channel")
        store.parts("patch", tokens.parts(), (tokens.shape, "float16", tokens.part), told, names=names)
    store.close()
