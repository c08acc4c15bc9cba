"""What all comparisons of one evaluation share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from pydantic import TypeAdapter

from pipeline.evaluate.models import Models
from pipeline.evaluate.recall import Basis, Recall, Slot
from pipeline.params.evaluate import EvaluateParams

R = TypeVar("R")


@dataclass(frozen=True)
class Run:
    """The models, the parameters, and the store with what it keeps of figures."""

    models: Models
    params: EvaluateParams
    recall: Recall

    def slot(self, part: str, form: TypeAdapter[R], takes: tuple[str, ...], basis: Basis) -> Slot[R]:
        """Where the figures `part` are kept; of the parameters they depend on those that `takes` names alone."""
        return self.recall.slot(part, form, {name: getattr(self.params, name) for name in takes}, basis)

    def both(self) -> Basis:
        """A basis: the student and its twin."""
        return {"student": self.models.student.told, "untrained": self.models.untrained.told}
