"""Engines: what runs the teacher's forward pass. `eager` is plain PyTorch, the reference for any other.

An engine takes uint8 images as they were decoded, so that a quarter of float32's bytes cross to the device, and
normalises there. Convolutional teachers run in channels-last: twice as fast in float32 on CPUs.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pipeline.errors import TeacherError
from pipeline.params import TokensParams
from pipeline.progress import console
from pipeline.tokens.teacher import Teacher


class Engine(Protocol):
    """Runs a teacher on one device: uint8 (N, H, W, 3) there in, (cls_ND, patch_NTD) float32 there out."""

    name: str
    device: torch.device

    def __call__(self, image_NHWC: Tensor) -> tuple[Tensor, Tensor]: ...


class Eager:
    """Plain PyTorch, under bf16 autocast where the precision says so."""

    name = "eager"

    def __init__(self, teacher: Teacher, device: torch.device, precision: str) -> None:
        self.device, self.precision = device, precision
        self._format = torch.channels_last if teacher.convolutional else torch.contiguous_format
        self._teacher = teacher.to(device).to(memory_format=self._format)

    @torch.inference_mode()
    def __call__(self, image_NHWC: Tensor) -> tuple[Tensor, Tensor]:
        image_NCHW = self._teacher.normalise(image_NHWC).contiguous(memory_format=self._format)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            cls_ND, patch_NTD = self._teacher(image_NCHW)
        return cls_ND, patch_NTD


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
