"""The models that are compared with the teacher: the student as it is exported, and its untrained twin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pipeline.base.errors import EvaluationError
from pipeline.student.exported import Dense, load_dense, load_student, untrained_twin


@dataclass(frozen=True)
class Models:
    """The student as exported to `folder`, its untrained twin; `dense`: both with their adapters, where it has one."""

    folder: Path
    student: nn.Module
    untrained: nn.Module
    dense: Mapping[str, Dense]

    @classmethod
    def load(cls, folder: Path, width: int, seed: int) -> Models:
        """From `models/student/`. Raises `EvaluationError` where it does not answer in the teacher's width."""
        student, twin = load_student(folder), untrained_twin(folder, seed)
        if getattr(student, "num_classes", None) != width:
            what = f"answers in {getattr(student, 'num_classes', None)} channels, the teacher in {width}"
            raise EvaluationError(what, where=str(folder), fix="dvc repro student")
        dense = {
            "student": load_dense(folder, student),
            "untrained": load_dense(folder, twin, trained=False, seed=seed),
        }
        return cls(folder, student, twin, {name: model for name, model in dense.items() if model is not None})
