"""How fast teacher and student are here: their architectures with random weights, so that nothing is downloaded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from pipeline.params.student import StudentParams
from pipeline.params.tokens import TokensParams
from pipeline.student.model import build
from pipeline.student.recipe import input_side
from pipeline.teachers import demo
from pipeline.teachers.engines.base import pick_device, resolve_precision
from pipeline.teachers.loading import side_told
from pipeline.teachers.preparation import Preparation, PretrainedCfg
from pipeline.teachers.registry import entry_of
from pipeline.teachers.teacher import Teacher
from pipeline.teachers.weights import create_model

_HALVES = (0.5, 0.5, 0.5)
_MOST = 16
"""Images of a pass on a CPU, on which larger batches are no faster an image."""


@dataclass(frozen=True)
class TeacherSpeed:
    """Seconds an image, and of what is done before the first (the demo's is trained); width and number of tokens."""

    name: str
    image_s: float
    before_s: float
    width: int
    tokens: int
    grid: tuple[int, int]


@dataclass(frozen=True)
class StudentSpeed:
    """Seconds a tile of training, and of answering."""

    train_s: float
    answer_s: float


def teacher_speed(params: TokensParams, seconds: float) -> TeacherSpeed:
    """In eager, at the precision that the params resolve to here. Raises `TeacherError` for an unknown name."""
    teacher = _teacher(params)
    device = pick_device()
    teacher.to(device)
    half = resolve_precision(params.precision, device) == "bf16"
    n = params.batch_size if device.type == "cuda" else min(params.batch_size, _MOST)
    image_NCHW = torch.rand(n, 3, teacher.input_px, teacher.input_px, device=device)

    def answer() -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            teacher(image_NCHW)

    image_s = _seconds(answer, seconds, device) / n
    before_s = params.demo_teacher_steps * _demo_step_s(seconds) if params.teacher == "demo" else 0.0
    return TeacherSpeed(params.teacher, image_s, before_s, teacher.width, teacher.tokens, teacher.grid)


def student_speed(params: StudentParams, tile_px: int, teacher: TeacherSpeed, seconds: float) -> StudentSpeed:
    """Forwards and backwards with AdamW, and forwards alone; what is done to targets and inputs is not counted.

    With the head and adapter of that teacher alone: further ones are small beside the trunk.
    """
    device, side = pick_device(), input_side(params, tile_px)
    adapter = params.adapter if params.objective.patch > 0 else None
    made = build(
        model=params.model,
        width=teacher.width,
        input_px=side,
        adapter=adapter,
        grid=teacher.grid,
        seed=0,
        model_kwargs=params.model_kwargs,
    )
    model: nn.Module = made[0].to(device)
    n = params.batch_size if device.type == "cuda" else min(params.batch_size, _MOST)
    image_NHWC = torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, device=device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        answers = [part for answer in model(image_NHWC) for part in answer if part is not None]
        torch.autograd.backward(torch.stack([answer.float().square().mean() for answer in answers]).sum())
        optimiser.step()

    train_s = _seconds(step, seconds / 2, device) / n
    model.eval()

    def answer() -> None:
        with torch.inference_mode():
            model(image_NHWC)

    return StudentSpeed(train_s, _seconds(answer, seconds / 2, device) / n)


def _demo_step_s(seconds: float) -> float:
    """Of the demo teacher's training, on a CPU as it is done."""
    model = demo.build()
    image_NCHW = torch.rand(demo.BATCH, 3, demo.INPUT_PX, demo.INPUT_PX)

    def step() -> None:
        torch.autograd.backward(model.forward_features(image_NCHW).square().mean())

    return _seconds(step, seconds, torch.device("cpu"))


def _teacher(params: TokensParams) -> Teacher:
    prepared = Preparation(_HALVES, _HALVES)
    if params.teacher == "demo":
        return Teacher("demo", demo.build(), demo.INPUT_PX, prepared)
    entry = entry_of(params.teacher)
    name = params.teacher if entry is None else entry.architecture or f"hf-hub:{entry.hub}"
    kwargs = {**(entry.model_kwargs if entry else {}), **params.model_kwargs}
    model = create_model(name, kwargs, pretrained=False)
    cfg: PretrainedCfg = getattr(model, "pretrained_cfg", None) or PretrainedCfg()
    own_px = entry.input_px if entry else cfg.get("input_size", (3, 224, 224))[-1]
    return Teacher(params.teacher, model, params.input_px or side_told(params, own_px), prepared)


def _seconds(call: Callable[[], None], seconds: float, device: torch.device) -> float:
    """Of one call: the median of what fits into the seconds, after one to warm up; two at least."""
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    kept = sorted(taken[1:])
    return kept[len(kept) // 2]
