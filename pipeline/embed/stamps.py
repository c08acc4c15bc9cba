"""What a finished file was made of, kept in the file itself, so that a finished slide is known without a data base.

    HDF5 (.h5, .h5ad)  an attribute `histill` of the file, JSON
    npz                an entry `histill`, JSON
    Parquet            `histill` in the schema's metadata, JSON
    JSON               a key `histill`
    Zarr (a folder)    an attribute `histill` of the group

`digest` in it is of all that the bytes depend on: the encoder's weights, the slide's bytes, the tiling, the format and
what else was asked for; not of the engine, whose answers differ by rounding alone.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.base.store import recipe_key
from pipeline.base.types import Json, Recipe
from pipeline.embed.asked import Asked
from pipeline.embed.encoders.encoder import Facts
from pipeline.embed.patch_form import FP16
from pipeline.params.tiles import TilesParams
from pipeline.slides.identity import beside_identity
from pipeline.tiles.stage import tiles_recipe

VERSION = 1
"""Count up when the same settings give other bytes."""
KEY = "histill"
_NOT_OF_TILES = ("jpeg_quality", "max_tiles_per_slide", "seed")
"""What the tiles stage's recipe has beside the choice of tiles: nothing is stored as JPEG, and all tiles are taken."""


@dataclass(frozen=True)
class Settings:
    """What is asked of all slides: the format, what the encoder stands in for."""

    form: str
    tiles: TilesParams
    stands_for: str | None = None


def stamp(asked: Asked, encoder: Facts, settings: Settings) -> Recipe:
    """Of one slide's file. Raises `SlideRefused` where the slide's files are not all there."""
    recipe = tiles_recipe(settings.tiles)
    made_of: dict[str, Json] = {
        "version": VERSION,
        "encoder": encoder.name,
        "weights": encoder.digest,
        "input_px": encoder.input_px,
        "stands_for": settings.stands_for,
        "format": settings.form,
        "tiling": {name: value for name, value in recipe.items() if name not in _NOT_OF_TILES},
        "slide_nbytes": asked.nbytes,
        "slide_mpp": asked.source.mpp,
        "beside": beside_identity(asked.source.mask, asked.source.coords),
    }
    if encoder.patch is not None:
        made_of |= {"grid": list(encoder.patch.grid), "adapter": encoder.adapter}
        # What float16 was made of is known by the digests of before there was another layout.
        made_of |= {} if encoder.patch.layout == FP16 else {"patch": recipe_key(encoder.patch.attributes)}
    if encoder.nested is not None:
        made_of |= {"width": encoder.width, "nested": encoder.nested}
    return {**made_of, "digest": recipe_key(made_of)}


def read_stamp(path: Path) -> Mapping[str, Json] | None:
    """The stamp of a file or a Zarr folder; None where it has none, or is no such file."""
    try:
        text = _read(path)
        found = json.loads(text) if text is not None else None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return found if isinstance(found, dict) else None


def _read(path: Path) -> str | None:
    if path.is_dir():
        told = json.loads((path / "zarr.json").read_bytes())["attributes"].get(KEY)
        return None if told is None else str(told)
    if path.suffix == ".json":
        told = json.loads(path.read_bytes()).get(KEY)
        return None if told is None else str(told)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return str(arrays[KEY]) if KEY in arrays else None
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        told = (pq.read_schema(path).metadata or {}).get(KEY.encode())
        return None if told is None else told.decode()
    import h5py

    with h5py.File(path, "r") as file:
        told = file.attrs.get(KEY)
        return None if told is None else str(told)
