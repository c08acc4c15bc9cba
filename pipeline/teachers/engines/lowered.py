"""bf16 as autocast computes it, with the weights cast once: autocast casts every weight again in every pass.

What autocast gives to bf16 are products and convolutions, whose weights and biases it rounds; norms and the residual
stream stay in float32. The same rounding ahead of time gives the same bits, and leaves half the bytes to be read.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

CAST = (nn.Linear, nn.Conv2d)
"""Layers that use their weights in one product alone; subclasses may compute with them first, and are left."""


def lowered(trunk: nn.Module) -> nn.Module:
    """A copy of a trunk for bf16 autocast; the trunk itself stays float32, as the gate's reference."""
    made = copy.deepcopy(trunk)
    for layer in made.modules():
        if type(layer) in CAST:
            layer.to(torch.bfloat16)
    return made
