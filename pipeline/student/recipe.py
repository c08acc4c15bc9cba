"""What a student's weights depend on: its recipe in the store."""

from __future__ import annotations

import torch

from pipeline.base.items import TokensManifest
from pipeline.base.types import Json, Recipe
from pipeline.corpus.corpus import Corpus
from pipeline.inputs.changes import RECIPE_VERSION as CHANGES_VERSION
from pipeline.inputs.slide_stains import RECIPE_VERSION as STAIN_VERSION
from pipeline.params.student import StudentParams
from pipeline.student.device import autocast_dtype
from pipeline.student.objectives import NESTED
from pipeline.student.ranks.number import of_recipe
from pipeline.student.start import Start

RECIPE_VERSION = 2
SITE_PARAMS = {"workers", "checkpoint_minutes", "log", "shards"}
"""Parameters that do not change the result; the number of parts is in the recipe beside them, where there are some."""


def train_recipe(
    tokens: TokensManifest,
    corpus: Corpus,
    params: StudentParams,
    tile_px: int,
    world: int = 1,
    start: Start | None = None,
) -> Recipe:
    """All that the weights depend on: parameters, input side, precision, the cached answers in their order, the start.

    The number of processes too, but where they train what one does (`ranks.number`).
    """
    special = of_recipe(params, corpus.kept_total, world)
    if params.train_fraction < 1:
        # Which rows a fraction keeps, and that the targets' statistics are of them alone.
        special["kept_rows"] = "bit-reversed"
    if params.augment.changes:
        special["changes"] = CHANGES_VERSION
    if params.augment.stains_as_others:
        special["slide_stain"] = STAIN_VERSION
    if start is not None:
        special["start"] = start.recipe
    if tokens.also:
        of_each = zip(tokens.also, corpus.also, strict=True)
        special["also"] = [[one.recipe_key, _addressed(its)] for one, its in of_each]
    return {
        **special,
        "student": kept_params(params, several=bool(tokens.also)),
        "input_px": input_side(params, tile_px),
        "precision": precision_here(),
        "tokens": tokens.recipe_key,
        "items": _addressed(corpus),
        "recipe_version": RECIPE_VERSION,
    }


def _addressed(corpus: Corpus) -> list[Json]:
    return [[item.key, item.digest] for item in corpus.items]


def kept_params(params: StudentParams, several: bool) -> dict[str, Json]:
    """Those on which the weights depend, as they are hashed; an option that is off is not among them.

    Of one teacher (not `several`) that are those of several.

    Nor is where a student starts: that is in the recipe by its content.
    """
    on = {"mix": params.mix.kind != "none", "augment": params.augment.changes, "weights": False}
    on |= {"head_hidden": params.head_hidden is not None, "teachers": several, "nested": bool(params.sizes)}
    off: dict[str, bool | set[str]] = {name: True for name, is_on in on.items() if not is_on}
    if "nested" in off:
        off["objective"] = {NESTED}
    student: dict[str, Json] = params.model_dump(mode="json", exclude={**dict.fromkeys(SITE_PARAMS, True), **off})
    if not torch.cuda.is_available():
        # CPUs run eager whatever it says.
        student["compile"] = "auto"
    return student


def input_side(params: StudentParams, tile_px: int) -> int:
    """The side at which the student sees a tile."""
    return params.input_px or max(32, round(tile_px / 32) * 32)


def precision_here() -> str:
    """In which a student is trained on this machine."""
    return "fp32" if autocast_dtype() is None else "bf16"
