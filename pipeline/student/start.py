"""The weights from which a student starts, in place of random ones: `student.weights`.

    a timm name with its tag    efficientvit_b0.r224_in1k, or hf-hub:owner/name: from the hub or its cache
    a file                      .safetensors, .pt, .pth, .bin: a state_dict with timm's names, as training code wraps it
    a folder                    an exported student
    checkpoints/KEY/run         a student of the store, as artifacts/student.json names it in `uses`

Everything but the head must be there and fit; of the head (what comes after the network's last map) what has the same
shape is taken. The last layer is taken of students alone, where it is as wide as the teacher: it answers in the
teacher's own units, and is brought into the standardised space of this training, whose statistics may be others. So it
is for the adapter, where it is of the same kind and arguments. Statistics of batch norm come along; they are measured
anew before the first step with `freeze_batch_norm`, and at the end without. Optimiser, schedule and moving average
begin anew.

A recipe has the weights by their digest, whatever they are called and wherever they lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from timm.models import split_model_name_tag
from torch import Tensor, nn

from pipeline.base.errors import StoreError, StudentError, TeacherError, TrainingError, first_line
from pipeline.base.items import AdapterArguments, StartFacts
from pipeline.base.names import at_home
from pipeline.base.store import Ref, Store
from pipeline.base.types import Json
from pipeline.corpus.targets import Standardiser
from pipeline.params.student import StudentParams
from pipeline.student.export import into_own_units, load_run
from pipeline.student.exported import AdapterConfig, architecture, load_student
from pipeline.student.model import Distiller, Student
from pipeline.student.shipped import ADAPTER_WEIGHTS_FILE, CONFIG_FILE, adapter_folder
from pipeline.teachers.dinov2_names import dinov2_names
from pipeline.teachers.state_names import stripped
from pipeline.teachers.weights import read_state, require_weights, resampled_by_timm, state_digest, without_token

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
KIND = "checkpoints"
_OFFLINE = "connect once so that the hub's cache holds it, or name a local file in its place"
State = dict[str, Tensor]


@dataclass(frozen=True)
class StartAdapter:
    """An adapter that answers in the teacher's units, and what it was made with."""

    kind: str
    arguments: AdapterArguments
    state: State


@dataclass(frozen=True)
class Start:
    """Weights of a backbone by timm's names, of a student (`answers`) with a last layer in the teacher's units."""

    origin: str
    where: str
    architecture: str | None
    state: State
    answers: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    adapter: StartAdapter | None = None
    uses: tuple[str, ...] = ()
    """The store's items that it was read from."""

    @property
    def recipe(self) -> Json:
        """What of it the trained weights depend on."""
        adapter = None if self.adapter is None else state_digest(self.adapter.state)
        cfg: list[Json] = [None if values is None else list(values) for values in (self.mean, self.std)]
        return {"weights": state_digest(self.state), "adapter": adapter, "input": cfg}

    def into(self, distiller: Distiller, adapter: str, cls: Standardiser, patch: Standardiser | None) -> StartFacts:
        """Fill a distiller whose adapter, if any, is of the kind `adapter`; `cls` and `patch` standardise its targets.

        Says what was taken. Raises `TrainingError` where the weights are of another network.
        """
        student = distiller.student
        head = _fill(student, self)
        if head:
            cls.unfold_from(student.last)
        if self.mean is not None and self.std is not None:
            student.normalise_by(self.mean, self.std)
        taken, own = False, distiller.adapter
        if own is not None and patch is not None and self.adapter is not None and self.adapter.kind == adapter:
            known = own.state_dict()
            taken = _shapes(known) == _shapes(self.adapter.state)
            if taken:
                own.load_state_dict(self.adapter.state)
                patch.unfold_from(own.last)
        cfg = student.backbone.pretrained_cfg
        digest = state_digest(self.state)
        return StartFacts(origin=self.origin, digest=digest, mean=cfg["mean"], std=cfg["std"], head=head, adapter=taken)


def load_start(params: StudentParams, store: Store) -> Start | None:
    """What `student.weights` names, None for a student from scratch. Raises `TrainingError`."""
    if params.weights is None:
        return None
    named, path = params.weights, at_home(params.weights)
    where = f"student.weights: {named}"
    if named.startswith(f"{KIND}/"):
        start = _of_checkpoint(named, store, where)
    elif path.is_dir():
        start = _of_folder(path, where)
    elif path.is_file():
        start = Start(f"the file {path.name}", where, None, _of_file(path, params.model, where))
    elif path.suffix in SUFFIXES or named.startswith(("/", ".", "~")):
        raise TrainingError("no such file or folder", where=where, fix=f"mend `student.weights` (looked at {path})")
    else:
        start = _of_hub(named, params, where)
    own = split_model_name_tag(params.model)[0]
    if start.architecture not in (None, own):
        fix = f"set student.model to {start.architecture}, or name weights of {own}"
        raise TrainingError(f"they are of {start.architecture}, the student is {own}", where=where, fix=fix)
    return start


def _of_checkpoint(named: str, store: Store, where: str) -> Start:
    try:
        ref = Ref.parse(named)
        folder = store.open(ref, remedy="name another (artifacts/student.json), or the folder of an exported student")
    except (StoreError, TypeError, ValueError) as error:
        what = error.what if isinstance(error, StoreError) else "not kind/recipe/item"
        fix = "an item of the store: checkpoints/KEY/run, as `uses` of artifacts/student.json names it"
        raise TrainingError(what, where=where, fix=fix) from None
    facts, distiller, targets = load_run(folder)
    student, own = distiller.student, distiller.adapter
    into_own_units(distiller, targets)
    # Of several teachers' heads the first one's is what a student goes on from.
    student.narrow()
    adapter = None
    if own is not None and facts.adapter is not None:
        kind = StudentParams.model_validate(facts.student).adapter
        adapter = StartAdapter(kind, facts.adapter, own.state_dict())
    return _of_student(f"a student distilled from {facts.teacher.name}", where, student.backbone, adapter, (named,))


def _of_folder(folder: Path, where: str) -> Start:
    try:
        backbone = load_student(folder)
        config = AdapterConfig.of_folder(folder)
    except (StudentError, OSError, RuntimeError, ValueError, KeyError) as error:
        fix = f"a folder that the student stage exported ({CONFIG_FILE} and weights); DVC empties models/student before"
        fix += " the stage runs, so name a copy of it, or its checkpoints/KEY/run"
        raise TrainingError(f"not an exported student: {first_line(error)}", where=where, fix=fix) from None
    adapter = None
    if config is not None:
        state = load_file(adapter_folder(folder) / ADAPTER_WEIGHTS_FILE)
        adapter = StartAdapter(config.adapter, config.arguments, state)
    return _of_student("an exported student", where, backbone, adapter, ())


def _of_student(
    origin: str, where: str, backbone: nn.Module, adapter: StartAdapter | None, uses: tuple[str, ...]
) -> Start:
    cfg: Mapping[str, tuple[float, ...]] = backbone.pretrained_cfg  # type: ignore[assignment]
    return Start(
        origin,
        where,
        architecture(backbone),
        backbone.state_dict(),
        answers=True,
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        adapter=adapter,
        uses=uses,
    )


def _of_file(path: Path, model: str, where: str) -> State:
    """The file's tensors under timm's names."""
    try:
        found, _ = read_state(path, where)
        plain = timm.create_model(model, pretrained=False).state_dict()
        state = dinov2_names(stripped(found, plain.keys())[0])
        require_weights(state, {name: plain[name] for name in state.keys() & plain.keys()}, where)
    except TeacherError as error:
        fix = error.fix or "save its state_dict as safetensors"
        raise TrainingError(error.what, where=where, fix=fix.replace("tokens.weights", "student.weights")) from None
    return state


def _of_hub(named: str, params: StudentParams, where: str) -> Start:
    hub = named.startswith(("hf-hub:", "hf_hub:"))
    base, tag = split_model_name_tag(named)
    if not hub:
        known = timm.list_pretrained(f"{base}.*") if timm.is_model(base) else []
        if not tag or named not in known:
            near = ", ".join(known or timm.list_pretrained(f"{split_model_name_tag(params.model)[0]}.*")) or "none"
            what = "neither a file, a folder, checkpoints/KEY/run nor a timm name with a tag that has weights"
            raise TrainingError(what, where=where, fix=f"weights of this student that timm knows: {near}")
        own = split_model_name_tag(params.model)[0]
        if base != own:
            fix = f"set student.model to {base}, or name weights of {own}"
            raise TrainingError(f"they are of {base}, the student is {own}", where=where, fix=fix)
    try:
        model: nn.Module = timm.create_model(named, pretrained=True)
    except Exception as error:
        # What the hub's library, the network or timm raise is of any kind.
        what = f"the weights cannot be fetched from the hub: {without_token(first_line(error))}"
        raise TrainingError(what, where=where, fix=_OFFLINE) from None
    cfg: Mapping[str, tuple[float, ...]] = model.pretrained_cfg  # type: ignore[assignment]
    mean, std = tuple(cfg["mean"]), tuple(cfg["std"])
    return Start(f"timm's {named}", where, architecture(model), model.state_dict(), mean=mean, std=std)


def _fill(student: Student, start: Start) -> bool:
    """Take what fits into the student's backbone; whether the last layer was taken too. Raises `TrainingError`."""
    backbone, last = student.backbone, student.last
    known = backbone.state_dict()
    (ending,) = [name for name, module in backbone.named_modules() if module is last]
    head = f"{ending.split('.')[0]}."
    state = dict(start.state)
    if start.answers and _shapes(_under(state, ending)) == _shapes(_under(known, ending)):
        answers = True
    else:
        answers = False
        state = {name: value for name, value in state.items() if not name.startswith(f"{ending}.")}
    body = {name for name in known if not name.startswith(head)}
    if any(name in state and state[name].shape != known[name].shape for name in body):
        # Position embeddings of another side are resampled as timm does.
        state, _ = resampled_by_timm(backbone, state)
    missing = sorted(body - state.keys())
    wrong = sorted(name for name in body & state.keys() if state[name].shape != known[name].shape)
    if missing or wrong:
        shown = ", ".join([*(f"{name} is missing" for name in missing), *(f"{name} differs" for name in wrong)][:4])
        what = f"{len(missing) + len(wrong)} of {len(body)} tensors before the head do not fit: {shown}"
        raise TrainingError(what, where=start.where, fix="is it student.model, with the same student.model_kwargs?")
    taken = {name: value for name, value in state.items() if name in known and value.shape == known[name].shape}
    backbone.load_state_dict(known | taken)
    return answers


def _under(state: Mapping[str, Tensor], module: str) -> State:
    return {name: value for name, value in state.items() if name.startswith(f"{module}.")}


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}
