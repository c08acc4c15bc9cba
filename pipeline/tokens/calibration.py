"""The frozen mean and deviation by which patch tokens are standardised before they are quantised.

Taken once a recipe from a few hundred tiles and kept in the store, so that every slide that is added later lies in the
same space. Each item carries its (mu, sigma) in its attributes and stays readable without this one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline.base.arrays import ArrayWriter, MappedArray
from pipeline.base.items import TilesItem
from pipeline.base.living.unfinished import PARTIALS
from pipeline.base.store import Ref, Store
from pipeline.base.types import Recipe
from pipeline.teachers.statistics import Calibration
from pipeline.tokens.item.attributes import space_of

ITEM = "calibration"
CALIBRATED_BY = "calibrated_by"
"""In a recipe: the key of the one whose calibration it shares."""


def choose(items: Iterable[TilesItem], n_tiles: int) -> list[tuple[TilesItem, int]]:
    """(item, row) of up to `n_tiles` tiles, evenly spread over the train slides by id: none is of a held-out one."""
    return spread((item for item in items if item.in_train), n_tiles)


def spread(items: Iterable[TilesItem], n_tiles: int) -> list[tuple[TilesItem, int]]:
    """(item, row) of up to `n_tiles` tiles, evenly spread over all of the items, by id."""
    pool = sorted(items, key=lambda item: item.id)
    ends = np.cumsum([item.n for item in pool])
    total = int(ends[-1]) if len(ends) else 0
    n_tiles = min(n_tiles, total)
    places = (np.arange(n_tiles) * 2 + 1) * total // (2 * max(n_tiles, 1))
    owners = np.searchsorted(ends, places, side="right")
    return [(pool[i], int(place - ends[i] + pool[i].n)) for i, place in zip(owners, places, strict=True)]


def save(store: Store, ref: Ref, recipe: Recipe, calibration: Calibration) -> None:
    """Commit it; where someone else was quicker, theirs stays."""
    with store.write(ref, recipe) as folder:
        for name, values_D in (("mu", calibration.mu), ("sigma", calibration.sigma)):
            ArrayWriter(folder / name, values_D.shape, len(values_D), np.float32).write(0, values_D)


def recovered(store: Store, ref: Ref) -> Calibration | None:
    """What slides, finished or not, were standardised by, where the calibration `ref` itself is gone; None without any.

    Its own recipe's slides, and those of recipes that share it. Measured again on the slides of today it could differ,
    and they would lie in two spaces.
    """
    folders = [folder for folder in store.recipes("tokens") if (folder / "recipe.json").is_file()]
    own = [folder for folder in folders if folder.name == ref.recipe]
    sharing = [folder for folder in folders if _calibrated_by(folder / "recipe.json") == ref.recipe]
    for folder in (*own, *sharing):
        unfinished = folder.glob(f"{PARTIALS}/*/*/patch/zarr.json")
        for metadata in (*sorted(folder.glob("*/patch/zarr.json")), *sorted(unfinished)):
            frozen = space_of(MappedArray(metadata.parent))
            return Calibration(frozen.mu, frozen.sigma)
    return None


def _calibrated_by(recipe: Path) -> str | None:
    """The key of the recipe whose calibration a recipe.json shares."""
    found: str | None = json.loads(recipe.read_bytes()).get(CALIBRATED_BY)
    return found


def load(folder: Path) -> Calibration:
    """The committed calibration."""
    mu, sigma = MappedArray(folder / "mu"), MappedArray(folder / "sigma")
    return Calibration(np.array(mu.slice(0, len(mu))), np.array(sigma.slice(0, len(sigma))))
