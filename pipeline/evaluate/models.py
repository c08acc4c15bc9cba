"""The models that are compared with the teacher: the student as it is exported, and its untrained twin."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.base.errors import EvaluationError
from pipeline.base.kept import Basis
from pipeline.student.exported import (
    AdapterConfig,
    Dense,
    Prefix,
    load_dense,
    load_nested,
    load_student,
    net_of,
    untrained_twin,
)
from pipeline.student.nested import Nested


@dataclass(frozen=True)
class Net:
    """A model, and all that its answers depend on: the net and its input as config.json has them, and the weights."""

    model: nn.Module
    told: Basis

    @classmethod
    def of(cls, folder: Path, model: nn.Module) -> Net:
        """A model of the architecture exported in `folder`."""
        return cls(model, {**net_of(folder), "weights": weights_digest(model)})


@dataclass(frozen=True)
class Models:
    """The student as exported to `folder`, its untrained twin; `dense`: both with their adapters, where it has one."""

    folder: Path
    student: Net
    untrained: Net
    dense: Mapping[str, Dense]
    nested: Net | None = None
    """Answers the student's nested vector, where it has nested sizes; `nested_heads` has them."""
    nested_heads: Nested | None = None

    @classmethod
    def load(cls, folder: Path, width: int, seed: int) -> Models:
        """From `models/student/`. Raises `EvaluationError` where it does not answer in the teacher's width."""
        student, twin = load_student(folder), untrained_twin(folder, seed)
        if getattr(student, "num_classes", None) != width:
            what = f"answers in {getattr(student, 'num_classes', None)} channels, the teacher in {width}"
            raise EvaluationError(what, where=str(folder), fix="dvc repro student")
        found = {
            "student": load_dense(folder, student),
            "untrained": load_dense(folder, twin, trained=False, seed=seed),
        }
        dense = {name: model for name, model in found.items() if model is not None}
        nested = load_nested(folder)
        whole = None if nested is None else Net.of(folder, Prefix(student, nested, nested.sizes[-1]))
        return cls(folder, Net.of(folder, student), Net.of(folder, twin), dense, whole, nested)

    def dense_told(self, name: str) -> Basis:
        """All that a model's patch tokens depend on."""
        config = AdapterConfig.of_folder(self.folder)
        assert config is not None
        weights = weights_digest(self.dense[name])
        return {**net_of(self.folder), "adapter": config.model_dump(mode="json"), "weights": weights}


def weights_digest(model: nn.Module) -> str:
    """32 hex digits of the sha256 over names, types, shapes and bytes of all parameters and buffers."""
    found = hashlib.sha256()
    state: Mapping[str, Tensor] = model.state_dict()
    for name in sorted(state):
        values = state[name].detach().cpu().contiguous()
        found.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        found.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:32]
