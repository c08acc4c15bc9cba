"""`eager`: plain PyTorch. In fp32 it is the reference that every other engine is held against."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.teachers.engines.base import convolutions_in
from pipeline.teachers.engines.lowered import lowered
from pipeline.teachers.network import Network


class Eager:
    """The trunk as it is, under bf16 autocast where the precision says so."""

    name = "eager"

    def __init__(self, network: Network, device: torch.device, precision: str) -> None:
        self.device, self.precision = device, precision
        self._network = network.to(device).in_fastest_layout()
        self._trunk = lowered(network.trunk) if precision == "bf16" else network.trunk

    @torch.inference_mode()
    def __call__(self, image_NHWC: Tensor) -> Tensor:
        """The trunk's answer for uint8 images (N, H, W, 3) on the engine's device."""
        image_NCHW = self._network.normalise(image_NHWC).contiguous(memory_format=self._network.memory_format)
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with convolutions_in(self.precision), autocast:
            raw: Tensor = self._trunk(image_NCHW)
        return raw
