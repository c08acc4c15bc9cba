"""Which teacher the params name, and where its weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from pipeline.base.errors import TeacherError
from pipeline.base.files import dvc_root
from pipeline.base.names import at_home
from pipeline.base.store import Store
from pipeline.base.types import Json
from pipeline.params.tokens import TokensParams
from pipeline.teachers.demo import demo_teacher
from pipeline.teachers.preparation import PretrainedCfg, hints, preparation
from pipeline.teachers.registry import TeacherEntry, entry_of
from pipeline.teachers.teacher import Teacher
from pipeline.teachers.unfilled import unfilled
from pipeline.teachers.weights import create_model, fetch, load_weights, require_there


def load_teacher(params: TokensParams, store: Store, demo_px: int) -> Teacher:
    """The teacher that the params name: `demo`, one of the registry, a timm name, or one of the hub.

    `demo_px` is `slides.demo_px`: the demo teacher learns from demo slides of that side. Weights are never left at
    random: without `weights`, the hub is asked for them. Raises `TeacherError`, also where a teacher of the registry
    is not what the registry says.
    """
    if params.teacher == "demo":
        return demo_teacher(params, store, demo_px)
    entry = entry_of(params.teacher)
    kwargs = {**(entry.model_kwargs if entry else {}), **params.model_kwargs}
    model, remarks = _model(params, entry, kwargs)
    return _teacher(params, entry, kwargs, model, remarks)


def bare_teacher(params: TokensParams) -> Teacher:
    """A teacher of the registry with random weights: for what it costs, whose answers mean nothing.

    Raises `TeacherError` where its architecture is not known.
    """
    entry = entry_of(params.teacher)
    if entry is None or entry.architecture is None:
        fix = "give its weights (tokens.weights), or leave the benchmark out"
        raise TeacherError("its architecture is not known here", where=f"teacher {params.teacher}", fix=fix)
    kwargs = {**entry.model_kwargs, **params.model_kwargs}
    return _teacher(params, entry, kwargs, create_model(entry.architecture, kwargs, pretrained=False), ())


def _teacher(
    params: TokensParams,
    entry: TeacherEntry | None,
    kwargs: Mapping[str, Json],
    model: nn.Module,
    remarks: tuple[str, ...],
) -> Teacher:
    cfg: PretrainedCfg = getattr(model, "pretrained_cfg", None) or PretrainedCfg()
    own_px = entry.input_px if entry else cfg.get("input_size", (3, 224, 224))[-1]
    input_px = params.input_px or side_told(params, own_px)
    prepared = preparation(params, entry, cfg)
    teacher = Teacher(params.teacher, model, input_px, prepared, model_kwargs=kwargs, remarks=remarks)
    if entry is None:
        teacher.remarks += (*hints(params, teacher, cfg), *_untold(params))
    else:
        require_entry(teacher, entry)
    return teacher


def require_entry(teacher: Teacher, entry: TeacherEntry) -> None:
    """Raise `TeacherError` where a teacher's answers have another shape than its registry entry says."""
    side = teacher.input_px // entry.patch_px
    expected = {"width": entry.width, "patch tokens": (side, side), "class token first": True}
    found = {"width": teacher.width, "patch tokens": teacher.grid, "class token first": teacher.cls_is_token}
    if entry.registers is not None:
        expected["register tokens"], found["register tokens"] = entry.registers, teacher.n_prefix - 1
    wrong = [f"{what} {found[what]}, not {expected[what]}" for what in expected if found[what] != expected[what]]
    if wrong:
        fix = "are these its weights and `tokens.model_kwargs`? `histill teachers` lists what is expected"
        where = f"teacher {teacher.name}"
        raise TeacherError(f"does not match its registry entry: {'; '.join(wrong)}", where=where, fix=fix)


def _model(
    params: TokensParams, entry: TeacherEntry | None, kwargs: Mapping[str, Json]
) -> tuple[nn.Module, tuple[str, ...]]:
    """The model with its weights, and what was done to fit them: from a local file, or the hub in either's form."""
    own = None if params.weights is None else _weights_path(params.weights)
    if entry is None or (own is None and entry.state_names == "timm"):
        name = params.teacher if entry is None else f"hf-hub:{entry.hub}"
        if own is not None:
            require_there(own, params.teacher)
            return _filled(name, kwargs, own, params.teacher)
        return create_model(name, kwargs, pretrained=True), ()
    if entry.architecture is None:
        fix = "set `tokens.teacher` to timm's name of its architecture and `tokens.model_kwargs` to its arguments"
        raise TeacherError("its timm architecture is not known here", where=f"teacher {params.teacher}", fix=fix)
    # Ahead of the model: what the hub refuses is said before a large network is made.
    weights = own or fetch(entry.hub, "model.safetensors", params.teacher)
    require_there(weights, params.teacher)
    return _filled(entry.architecture, kwargs, weights, params.teacher)


def _filled(
    architecture: str, kwargs: Mapping[str, Json], weights: Path, name: str
) -> tuple[nn.Module, tuple[str, ...]]:
    """The model with the file's weights, all of which are there or it is an error; and what was done to fit them."""
    with unfilled():
        model = create_model(architecture, kwargs, pretrained=False)
    return model, load_weights(model, weights, name)


def _untold(params: TokensParams) -> list[str]:
    """What changes the answers and no shape, so that no weights can contradict it."""
    told = [f"{key}: {params.model_kwargs[key]}" for key in ("num_heads", "act_layer") if key in params.model_kwargs]
    return [f"no weights can show whether {' and '.join(told)} (tokens.model_kwargs) is theirs"] if told else []


def side_told(params: TokensParams, own_px: int) -> int:
    """The side that `model_kwargs.img_size` says, else the model's own. Raises `TeacherError` for no square."""
    told = params.model_kwargs.get("img_size", own_px)
    sides = set(told) if isinstance(told, list | tuple) else {told}
    side = sides.pop() if len(sides) == 1 else None
    if not isinstance(side, int) or side <= 0:
        where, fix = f"teacher {params.teacher}, tokens.model_kwargs", "give one whole number of pixels"
        raise TeacherError(f"img_size {told!r} is no square's side", where=where, fix=fix)
    return side


def anywhere(params: TokensParams) -> TokensParams:
    """The same, with a path that a process with another working directory finds too."""
    weights = None if params.weights is None else str(_weights_path(params.weights).absolute())
    return params.model_copy(update={"weights": weights})


def _weights_path(text: str) -> Path:
    """Relative to here, or (a temporary experiment does not carry the file) to the project it was made from."""
    path = at_home(text)
    return path if path.is_absolute() or path.exists() else dvc_root() / path
