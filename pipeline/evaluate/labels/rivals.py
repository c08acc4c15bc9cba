"""The nets that were trained on labels alone, kept in the store: no two students wait for the same training.

A net depends on the architecture and its input, the recipe, the drawn tiles with their classes, and the seed; neither
on the student's weights nor on the held-out tiles. So an evaluation that was killed goes on after its last finished
training, and the seeds and arms of a study share them: `classifiers/<recipe key>/<key of the draw>/`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from pipeline.base.files import write_json
from pipeline.base.kept import Kept
from pipeline.base.progress import Advance
from pipeline.base.store import Ref, recipe_key
from pipeline.base.tensors import save_tensors
from pipeline.base.types import Json
from pipeline.evaluate.labels.supervised import Recipe, train_from_labels
from pipeline.student.exported import net_of, untrained_twin
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import fit_square

KIND = "classifiers"
RECIPE_VERSION = 1
WEIGHTS_FILE, TRAINING_FILE = "weights.safetensors", "training.json"

Tile = tuple[Path, int]
"""An item's folder in the store, and the tile's row."""


@dataclass(frozen=True)
class Drawn:
    """The M tiles that a net learns from, the class of each (M,) of so many, and the seed of its training."""

    tiles: Sequence[Tile]
    class_M: NDArray[np.int64]
    classes: int
    seed: int

    def told(self) -> dict[str, Json]:
        """What of a net depends on it, as JSON."""
        return {
            "tiles": [[item.parent.name, item.name, row] for item, row in self.tiles],
            "class": self.class_M.tolist(),
            "classes": self.classes,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Rival:
    """A net trained on labels alone, in evaluation mode; the mean training loss of its last steps; where it is kept."""

    model: nn.Module
    loss: float
    ref: Ref


def rival(folder: Path, drawn: Drawn, recipe: Recipe, kept: Kept, advance: Advance) -> Rival:
    """From the store, else trained and kept there: the architecture exported in `folder`."""
    model = untrained_twin(folder, drawn.seed, drawn.classes)
    whole: dict[str, Json] = {"model": net_of(folder), "training": asdict(recipe), "recipe_version": RECIPE_VERSION}
    ref = Ref(KIND, recipe_key(whole), recipe_key(drawn.told()))
    if kept.has(ref):
        advance(recipe.steps * recipe.batch_size)
    else:
        loss = train_from_labels(model, _images(drawn.tiles), drawn.class_M, drawn.seed, recipe, advance)
        with kept.store.write(ref, whole) as partial:
            save_tensors(partial / WEIGHTS_FILE, model.state_dict())
            write_json(partial / TRAINING_FILE, {"loss": loss, **drawn.told()})
    item = kept.store.open(ref, remedy=kept.remedy)
    model.load_state_dict(load_file(item / WEIGHTS_FILE))
    return Rival(model, json.loads((item / TRAINING_FILE).read_bytes())["loss"], ref)


def _images(tiles: Sequence[Tile]) -> list[NDArray[np.uint8]]:
    """As stored, their middle squares."""
    readers = {folder: TileReader(folder) for folder, _ in tiles}
    images = [readers[folder].image(row) for folder, row in tiles]
    return [fit_square(image_HWC, min(image_HWC.shape[:2])) for image_HWC in images]
