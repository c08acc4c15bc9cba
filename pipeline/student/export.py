"""From a committed run to `models/student/`, a folder that timm loads with no code of ours.

    config.json           architecture, width, input side, mean and std: what timm.create_model("local-dir:…") reads
    model.safetensors     the student; answers in the teacher's own space
    model.onnx            the same model for any runtime: `image` in, `embedding` (batch, D) out; of several teachers
                          an `embedding_NAME` a further one too; with nested sizes last `nested` (batch, K), whose
                          first k numbers are the embedding of size k
    adapter/              only with `patch`; out of timm's sight, which fails on two .safetensors from 1.0.16 to 1.0.28
      adapter.safetensors the dense adapter, answering in the teacher's patch-token space
      adapter.json        its arguments
      dense.onnx          the student with it: `image` in, `embedding` and `patch` (batch, T, D) out
      space.json          `mu` and `sigma`, (D,) each, by which the teacher's patch tokens were standardised
    spaces/               only of several teachers; a folder each further one, called after it: the same trunk with that
                          teacher's head as its last layer, a whole folder as this one, but for the card
    nested/               only with `student.nested`
      nested.safetensors  project.weight and .bias, from the student's features to `nested`; heads.K.weight and .bias,
                          from its first K numbers into the teacher's space
      nested.json         the sizes, how many features, and the teacher's width
    README.md             the model card

Training answers z in standardised space; `targets.Standardiser` folds the way back into the last layer.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.base.errors import EngineError, TrainingError
from pipeline.base.files import as_file_name, open_to, umask, write_atomic, write_json
from pipeline.base.items import StudentFacts, TokensManifest
from pipeline.base.tensors import save_tensors
from pipeline.base.types import Json
from pipeline.corpus.targets import Standardiser
from pipeline.params.student import StudentParams
from pipeline.student.adapters import Adapter
from pipeline.student.card import KEEP_THE_HEAD, model_card
from pipeline.student.exported import AdapterConfig, Dense, Heads
from pipeline.student.heads import apart, joined, put_last
from pipeline.student.model import Distiller, Head, Student, add_heads, build
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
    space_of,
)
from pipeline.teachers.engines.onnx_file import EMBEDDING, NESTED, PATCH, write_onnx

INTERPOLATION = "bicubic"
"""What `pipeline.tiles.pixels` resizes with."""


def export_student(item: Path, out: Path, tokens: TokensManifest) -> None:
    """Write the committed run in `item` to the folder `out`, replacing it whole; the same run gives the same bytes.

    `tokens` are what it was trained on; the card says where they are from.
    """
    facts, distiller, targets = load_run(item)
    facts = facts.with_origins(tokens)
    into_own_units(distiller, targets)
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


def named(prefix: str, place: int) -> str:
    """What a teacher's statistics are called in weights.safetensors: cls_mean of the first, cls1_mean of the second."""
    return prefix if place == 0 else f"{prefix}{place}"


def into_own_units(distiller: Distiller, targets: Mapping[str, Tensor]) -> None:
    """Fold the way back from standardised space into every head and adapter."""
    student = distiller.student
    heads = apart(student.last, student.widths)
    for place, (head, adapter) in enumerate(zip(heads, distiller.adapters, strict=True)):
        Standardiser.from_tensors(named("cls", place), targets).fold_into(head)
        if adapter is not None:
            Standardiser.from_tensors(named("patch", place), targets).fold_into(adapter.last)
    if (nested := distiller.nested) is not None:
        for size in nested.sizes:
            Standardiser.from_tensors("cls", targets).fold_into(nested.head(size))
    put_last(student.backbone, student.last, joined(heads))


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
    if facts.also:
        heads = [Head(one.width, one.grid, one.adapter is not None) for one in facts.also]
        add_heads(distiller, heads, params.adapter, seed=0)
    distiller.nest(params.sizes, seed=0)
    distiller.load_state_dict(tensors)
    if facts.start is not None:
        distiller.student.normalise_by(facts.start.mean, facts.start.std)
    return facts, distiller.eval(), targets


def timm_config(student: Student, facts: StudentFacts, others: Sequence[str]) -> Mapping[str, Json]:
    """config.json as timm's own hub models have it: how to build the model, and what input it was trained on.

    `others` are teachers that it learnt from too, besides that of the facts, in whose space it answers.
    """
    own, side = student.backbone.pretrained_cfg, facts.input_px
    made = Made(facts.teacher.name, facts.tile_px, facts.target_mpp, tuple(others))
    teachers = " and ".join((facts.teacher.name, *others))
    space = "its" if not others else "the first one's"
    return {
        "architecture": own["architecture"],
        "num_classes": facts.width,
        "num_features": student.backbone.num_features,
        "model_args": student.model_args,
        "pretrained_cfg": {
            "tag": "histill",
            "description": f"distilled from {teachers}; answers in {space} embedding space. {KEEP_THE_HEAD}",
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
        MADE: made.told,
    }


def _write(folder: Path, facts: StudentFacts, distiller: Distiller, targets: Mapping[str, Tensor]) -> None:
    """The first teacher's folder, the others' below it."""
    student, adapters, backbone = distiller.student, distiller.adapters, distiller.student.backbone
    names, nested = [as_file_name(one.teacher.name) for one in facts.also], distiller.nested
    if names or nested is not None:
        outputs = [EMBEDDING, *(f"{EMBEDDING}_{name}" for name in names), *([NESTED] if nested else [])]
        write_student_onnx(Heads(backbone, student.widths, nested), facts.input_px, folder / ONNX_FILE, outputs)
    if nested is not None:
        write_nested(folder, nested)
    others = student.narrow()
    _write_one(folder, facts, facts.teachers[1:], student, adapters[0], targets)
    for place, (head, one) in enumerate(zip(others, facts.also, strict=True), start=1):
        own = space_of(folder, one.teacher.name)
        own.mkdir(parents=True)
        put_last(backbone, student.last, head)
        shared = {"teacher": one.teacher, "width": one.width, "grid": one.grid, "adapter": one.adapter, "also": ()}
        of_patch = f"{named('patch', place)}_"
        its = {f"patch_{name.removeprefix(of_patch)}": x for name, x in targets.items() if name.startswith(of_patch)}
        rest = [name for name in facts.teachers if name != one.teacher.name]
        _write_one(own, facts.model_copy(update=shared), rest, student, adapters[place], its)
    write_atomic(folder / CARD_FILE, model_card(facts).encode())


def _write_one(
    folder: Path,
    facts: StudentFacts,
    others: Sequence[str],
    student: Student,
    adapter: Adapter | None,
    targets: Mapping[str, Tensor],
) -> None:
    """A student whose last layer is one teacher's head; `others` are the further teachers."""
    write_json(folder / CONFIG_FILE, timm_config(student, facts, others))
    save_tensors(folder / WEIGHTS_FILE, student.backbone.state_dict())
    if not (folder / ONNX_FILE).exists():
        write_student_onnx(student.backbone, facts.input_px, folder / ONNX_FILE)
    if adapter is None or facts.adapter is None:
        return
    space = Standardiser.from_tensors("patch", targets)
    own = folder / ADAPTER_FOLDER
    own.mkdir()
    write_json(own / SPACE_FILE, {"mu": space.mean_D.tolist(), "sigma": space.scale_D.tolist()})
    save_tensors(own / ADAPTER_WEIGHTS_FILE, adapter.state_dict())
    name = StudentParams.model_validate(facts.student).adapter
    stages = tuple(stage.index for stage in student.stages)
    config = AdapterConfig(adapter=name, arguments=facts.adapter, stages=stages)
    write_json(own / ADAPTER_FILE, config.model_dump(mode="json"))
    dense = Dense(student.backbone, adapter, config).eval()
    write_student_onnx(dense, facts.input_px, own / DENSE_ONNX_FILE, (EMBEDDING, PATCH))


def write_nested(folder: Path, nested: Nested) -> None:
    """The folder `nested/`."""
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
