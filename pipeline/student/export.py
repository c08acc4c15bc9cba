"""From a committed run to `models/student/`, a folder that timm loads with no code of ours.

    config.json           architecture, width, input side, mean and std: what timm.create_model("local-dir:…") reads
    model.safetensors     the student; answers in the teacher's own space
    model.onnx            the same model for any runtime: `image` in, `embedding` (batch, D) out, with nested sizes
                          `nested` (batch, K) too, whose first k numbers are the embedding of size k
    adapter/              only with `patch`; out of timm's sight, which fails on two .safetensors from 1.0.16 to 1.0.28
      adapter.safetensors the dense adapter, answering in the teacher's patch-token space
      adapter.json        its arguments
      dense.onnx          the student with it: `image` in, `embedding` and `patch` (batch, T, D) out
      space.json          `mu` and `sigma`, (D,) each, by which the teacher's patch tokens were standardised
    nested/               only with `student.nested`
      nested.safetensors  project.weight and .bias, from the student's features to `nested`; heads.K.weight and .bias,
                          from its first K numbers into the teacher's space
      nested.json         the sizes, and how many features
    README.md             the model card

Training answers z in standardised space; `targets.Standardiser` folds the way back into the last layer.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.base.errors import EngineError, TrainingError
from pipeline.base.files import open_to, umask, write_atomic, write_json
from pipeline.base.items import StudentFacts
from pipeline.base.tensors import save_tensors
from pipeline.base.types import Json
from pipeline.corpus.targets import Standardiser
from pipeline.params.student import StudentParams
from pipeline.student.card import KEEP_THE_HEAD, model_card
from pipeline.student.exported import AdapterConfig, Dense, WithNested
from pipeline.student.model import Distiller, Student, build
from pipeline.student.nested import Nested
from pipeline.student.shipped import (
    ADAPTER_FILE,
    ADAPTER_FOLDER,
    ADAPTER_WEIGHTS_FILE,
    CARD_FILE,
    CONFIG_FILE,
    DENSE_ONNX_FILE,
    MADE,
    NESTED_FILE,
    NESTED_FOLDER,
    NESTED_WEIGHTS_FILE,
    ONNX_FILE,
    SPACE_FILE,
    WEIGHTS_FILE,
    Made,
)
from pipeline.teachers.engines.onnx_file import EMBEDDING, NESTED, PATCH, write_onnx

INTERPOLATION = "bicubic"
"""What `pipeline.tiles.pixels` resizes with."""


def export_student(item: Path, out: Path) -> None:
    """Write the committed run in `item` to the folder `out`, replacing it whole; the same run gives the same bytes."""
    facts, distiller, targets = load_run(item)
    cls, nested = Standardiser.from_tensors("cls", targets), distiller.nested
    heads = [] if nested is None else [nested.head(size) for size in nested.sizes]
    for layer in (distiller.student.last, *heads):
        cls.fold_into(layer)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        _write(fresh, facts, distiller, targets)
        mask = umask()
        for path in (fresh, *fresh.rglob("*")):
            open_to(mask, path)
        if out.exists():
            aged = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
            os.rename(out, aged / "old")
            os.rename(fresh, out)
            shutil.rmtree(aged)
        else:
            os.rename(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def load_run(item: Path) -> tuple[StudentFacts, Distiller, dict[str, Tensor]]:
    """run.json, the distiller as trained (standardised space, evaluation mode), and the targets' statistics."""
    facts = StudentFacts.model_validate_json((item / "run.json").read_bytes())
    params = StudentParams.model_validate(facts.student)
    tensors = load_file(item / "weights.safetensors")
    targets = {name: tensors.pop(name) for name in list(tensors) if "." not in name}
    distiller, _ = build(
        model=facts.model,
        width=facts.width,
        input_px=facts.input_px,
        adapter=params.adapter if facts.adapter else None,
        grid=facts.grid,
        seed=0,
        model_kwargs=params.model_kwargs,
    )
    distiller.nest(params.sizes, seed=0)
    distiller.load_state_dict(tensors)
    if facts.start is not None:
        distiller.student.normalise_by(facts.start.mean, facts.start.std)
    return facts, distiller.eval(), targets


def timm_config(student: Student, facts: StudentFacts) -> Mapping[str, Json]:
    """config.json as timm's own hub models have it: how to build the model, and what input it was trained on."""
    own, side = student.backbone.pretrained_cfg, facts.input_px
    return {
        "architecture": own["architecture"],
        "num_classes": facts.width,
        "num_features": student.backbone.num_features,
        "model_args": student.model_args,
        "pretrained_cfg": {
            "tag": "histill",
            "description": f"distilled from {facts.teacher.name}; answers in its embedding space. {KEEP_THE_HEAD}",
            "license": "other",
            "input_size": [3, side, side],
            "fixed_input_size": student.fixed_input,
            "pool_size": None,
            "interpolation": INTERPOLATION,
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": list(own["mean"]),
            "std": list(own["std"]),
            "num_classes": facts.width,
            "first_conv": own["first_conv"],
            # Named, timm drops it for another num_classes without a word: 0 then gave the penultimate layer.
            "classifier": None,
        },
        MADE: asdict(Made(facts.teacher.name, facts.tile_px, facts.target_mpp)),
    }


def _write(folder: Path, facts: StudentFacts, distiller: Distiller, targets: dict[str, Tensor]) -> None:
    write_json(folder / CONFIG_FILE, timm_config(distiller.student, facts))
    save_tensors(folder / WEIGHTS_FILE, distiller.student.backbone.state_dict())
    nested = distiller.nested
    if nested is None:
        write_student_onnx(distiller.student.backbone, facts.input_px, folder / ONNX_FILE)
    else:
        write_nested(folder, distiller.student.backbone, nested, facts.input_px)
    adapter = distiller.adapter
    if adapter is not None and facts.adapter is not None:
        space = Standardiser.from_tensors("patch", targets)
        space.fold_into(adapter.last)
        (folder / ADAPTER_FOLDER).mkdir()
        write_json(folder / ADAPTER_FOLDER / SPACE_FILE, {"mu": space.mean_D.tolist(), "sigma": space.scale_D.tolist()})
        save_tensors(folder / ADAPTER_FOLDER / ADAPTER_WEIGHTS_FILE, adapter.state_dict())
        stages = tuple(stage.index for stage in distiller.student.stages)
        name = StudentParams.model_validate(facts.student).adapter
        config = AdapterConfig(adapter=name, arguments=facts.adapter, stages=stages)
        write_json(folder / ADAPTER_FOLDER / ADAPTER_FILE, config.model_dump(mode="json"))
        dense = Dense(distiller.student.backbone, adapter, config).eval()
        file = folder / ADAPTER_FOLDER / DENSE_ONNX_FILE
        write_student_onnx(dense, facts.input_px, file, (EMBEDDING, PATCH))
    write_atomic(folder / CARD_FILE, model_card(facts).encode())


def write_nested(folder: Path, backbone: nn.Module, nested: Nested, input_px: int) -> None:
    """The folder `nested/`, and model.onnx with both outputs. Raises `TrainingError`."""
    both = WithNested(backbone, nested).eval()
    write_student_onnx(both, input_px, folder / ONNX_FILE, (EMBEDDING, NESTED))
    (folder / NESTED_FOLDER).mkdir()
    save_tensors(folder / NESTED_FOLDER / NESTED_WEIGHTS_FILE, nested.state_dict())
    told: Json = {"sizes": list(nested.sizes), "features": nested.features, "width": nested.width}
    write_json(folder / NESTED_FOLDER / NESTED_FILE, told)


def write_student_onnx(model: nn.Module, input_px: int, path: Path, outputs: Sequence[str] = (EMBEDDING,)) -> None:
    """`teachers.engines.onnx_file` of the student, or of it with its adapter. Raises `TrainingError` where it cannot be
    written."""
    try:
        write_onnx(model, input_px, path, outputs)
    except EngineError as error:
        fix = "choose another student.model (efficientvit_b0 …)"
        raise TrainingError(error.what, where="student.model", fix=fix) from error
