"""What all comparisons of one evaluation share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import TypeAdapter

from pipeline.base.kept import Basis, Kept, Slot
from pipeline.base.store import Ref, recipe_key
from pipeline.base.types import Json
from pipeline.evaluate.models import Models
from pipeline.evaluate.selection import Sample
from pipeline.params.evaluate import EvaluateParams

RECIPE_VERSION = 9
"""Of every figure of stage `evaluate`, and of its manifest: to be raised with any change after which one differs."""
R = TypeVar("R")


@dataclass(frozen=True)
class Run:
    """The models, the parameters, and the store with the figures that it keeps."""

    models: Models
    params: EvaluateParams
    kept: Kept

    def slot(self, part: str, form: TypeAdapter[R], takes: tuple[str, ...], basis: Basis) -> Slot[R]:
        """Where the figures `part` are kept; of the parameters they depend on those that `takes` names alone."""
        settings = {name: getattr(self.params, name) for name in takes}
        return self.kept.slot({"figures": part, "settings": settings, "recipe_version": RECIPE_VERSION}, basis, form)

    def both(self) -> Basis:
        """A basis: the student and its twin."""
        return {"student": self.models.student.told, "untrained": self.models.untrained.told}

    def tiles(self, samples: Sequence[Sample]) -> str:
        """32 hex digits of all by which figures of these tiles may differ: their bytes, tokens, rows, labels, names."""
        told: list[Json] = []
        for sample in samples:
            rest = {name: value for name, value in vars(sample).items() if name not in ("tiles", "tokens", "rows")}
            items = [self.kept.digest(Ref(*folder.parts[-3:])) for folder in (sample.tiles, sample.tokens)]
            told.append({"items": items, "rows": sample.rows.tolist(), **rest})
        return recipe_key({"samples": told})
