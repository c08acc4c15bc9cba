"""Engines: what runs the teacher's trunk, the expensive part of its forward pass.

An engine takes uint8 images as they were decoded, so that a quarter of float32's bytes cross to the device, normalises
there, and answers what `Teacher.trunk` answers, in its own dtype. The final LayerNorm, the split into CLS and patch
tokens and all that follows is `Teacher.finish`, outside every engine.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pipeline.errors import TeacherError
from pipeline.params import TokensParams
from pipeline.progress import console
from pipeline.tokens.engines.eager import Eager
from pipeline.tokens.teacher import Teacher


class Engine(Protocol):
    """Runs a teacher's trunk on one device: uint8 (N, H, W, 3) there in, raw as `Teacher.trunk` there out."""

    name: str
    device: torch.device

    def __call__(self, image_NHWC: Tensor) -> Tensor: ...


def pick_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> str:
    """`fp32` or `bf16`; `auto` is bf16 on a GPU that has it. The answer is part of the tokens' recipe."""
    has_bf16 = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        return "bf16" if device.type == "cuda" and has_bf16 else "fp32"
    if precision == "bf16" and not has_bf16:
        raise TeacherError("this GPU has no bf16", where=str(device), fix="set `tokens.precision: fp32`")
    return precision


def build_engine(teacher: Teacher, params: TokensParams, device: torch.device) -> Engine:
    """The engine that the params name, with the teacher on `device`; says which one `auto` took."""
    precision = resolve_precision(params.precision, device)
    if params.engine == "auto":
        console.print(f"tokens: engine auto -> eager, {precision} on {device.type}")
    return Eager(teacher, device, precision)
