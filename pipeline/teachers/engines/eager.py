"""`eager`: plain PyTorch. In fp32 it is the reference that every other engine is held against.

Convolutional teachers run in channels-last: twice as fast in float32 on CPUs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.teachers.engines.base import convolutions_in
from pipeline.teachers.teacher import Teacher


class Eager:
    """The teacher's trunk as it is, under bf16 autocast where the precision says so."""

    name = "eager"

    def __init__(self, teacher: Teacher, device: torch.device, precision: str) -> None:
        self.device, self.precision = device, precision
        self._format = torch.channels_last if teacher.convolutional else torch.contiguous_format
        self._teacher = teacher.to(device).to(memory_format=self._format)

    @torch.inference_mode()
    def __call__(self, image_NHWC: Tensor) -> Tensor:
        """The trunk's answer for uint8 images (N, H, W, 3) on the engine's device."""
        image_NCHW = self._teacher.normalise(image_NHWC).contiguous(memory_format=self._format)
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with convolutions_in(self.precision), autocast:
            raw: Tensor = self._teacher.trunk(image_NCHW)
        return raw
