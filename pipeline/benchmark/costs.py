"""What a model costs wherever it runs: its parameters and its multiply-adds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def parameters(model: nn.Module) -> int:
    """All weights, frozen ones too."""
    return sum(parameter.numel() for parameter in model.parameters())


def gmacs(model: nn.Module, image_NCHW: Tensor) -> float:
    """10^9 multiply-adds a batch of the model's matrix products, convolutions and attention; norms and such left out.

    Fused attention kernels hide their products from the counter, so that attention is computed the plain way here, and
    on the CPU: the counter sees through no other device's kernels.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        model(image_NCHW)
    return float(counter.get_total_flops()) / 2 / 1e9
