"""The teacher itself, for what the cache does not hold: a new data set, and images that were changed on purpose.

It must be the teacher whose answers the student was trained on; another one is an error, never a figure.
Shapes: N tiles, H = W the teacher's input side, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.base.errors import EvaluationError
from pipeline.base.items import TilesItem, TilesManifest, TokensManifest
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.params.tokens import TokensParams
from pipeline.teachers.engines import Eager, pick_device
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import Teacher
from pipeline.tokens.item.attributes import IMPORTED
from pipeline.tokens.recipe import one_view_key, tokens_recipe
from pipeline.tokens.stage import make_tokens

FIX = "set `tokens` in params.yaml as it was when the tokens were made, or: dvc repro tokens student"


@dataclass(frozen=True)
class TeacherSource:
    """The params that name the teacher; nothing is loaded before it is needed."""

    params: TokensParams
    demo_px: int

    def load(self, tokens: TokensManifest, store: Store) -> LiveTeacher:
        """The teacher of these tokens. Raises `TeacherError` where it cannot be had, `EvaluationError` for another."""
        teacher = load_teacher(self.params, store, self.demo_px)
        if teacher.describe() != tokens.recipe.get("teacher"):
            what = "the teacher that params.yaml names is not the one whose tokens are cached"
            raise EvaluationError(what, where=f"teacher {teacher.name}", fix=FIX)
        return LiveTeacher(teacher, tokens.precision)

    def answer(
        self, items: Sequence[TilesItem], tiles: TilesManifest, tokens: TokensManifest, store: Store
    ) -> list[Ref]:
        """Where each item's tokens are, of the tiles as they are; computed where the store lacks them."""
        key = one_view_key(tokens)
        refs = [Ref("tokens", key, item.key) for item in items]
        missing = [item for item, ref in zip(items, refs, strict=True) if not store.has(ref)]
        if not missing:
            return refs
        teacher = self.load(tokens, store).teacher
        # `auto` may mean another precision on this machine than on the one that made the tokens.
        update: dict[str, str] = {"precision": tokens.precision, "on_error": "fail"}
        if IMPORTED in tokens.recipe:
            # What was taken as it is has no patch tokens, and a set's would be compared with nothing.
            update["patch"] = "none"
        params = self.params.one_view.model_copy(update=update)
        of_sets = TilesManifest(recipe_key=tiles.recipe_key, recipe=tiles.recipe, items=tuple(missing))
        # Ahead of the work: by another recipe the calibration would be another, and there may be no train tile for it.
        if recipe_key(tokens_recipe(of_sets, teacher, params, tokens.precision)) != key:
            what = "the `tokens` section is not the one by which the cached tokens were made"
            raise EvaluationError(what, where="params.yaml", fix=FIX)
        make_tokens(of_sets, params, store, self.demo_px)
        return refs


class LiveTeacher:
    """The teacher on the device, answering images with its global embedding."""

    def __init__(self, teacher: Teacher, precision: str) -> None:
        self.teacher, self._engine = teacher, Eager(teacher, pick_device(), precision)
        self.side_px, self.resample = teacher.input_px, teacher.preparation.resample

    @torch.inference_mode()
    def __call__(self, image_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (N, side_px, side_px, 3) to (N, D) float32."""
        cls_ND, _ = self.teacher.finish(self._engine(torch.from_numpy(image_NHWC).to(self._engine.device)))
        answer_ND: NDArray[np.float32] = cls_ND.float().cpu().numpy()
        return answer_ND
