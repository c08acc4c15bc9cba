"""Channels-last, in which convolutions are twice as fast in float32 on CPUs, but for those that it ends by a signal.

oneDNN's gradient of a 1 x 1 convolution with a stride and fewer than 8 input channels in channels-last reads past its
input and the process dies (torch 2.14.1, CPU: `3 48 1 1 2 96` of a plain `nn.Conv2d`). Such layers look at the image
itself, in students that merge branches (mobileone, repvgg, fastvit); they stay contiguous, weights and input.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

FEWEST_CHANNELS = 8
"""From so many input channels on the gradient is computed another way: tried with 8, 16 and 64."""
_M = TypeVar("_M", bound=nn.Module)


def to_channels_last(module: _M) -> _M:
    """The module in channels-last, in place, but for layers that would end the process. More than once does no harm."""
    for tensor in (*module.parameters(), *module.buffers()):
        # Of a 3-D convolution's weights, which some layers have, `Module.to` would refuse the format.
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and ends_the_process(layer):
            layer.weight.data = layer.weight.data.clone(memory_format=torch.contiguous_format)
            if _contiguous not in layer._forward_pre_hooks.values():
                layer.register_forward_pre_hook(_contiguous)
    return module


def ends_the_process(layer: nn.Conv2d) -> bool:
    """Whether its gradient in channels-last would, on a CPU."""
    strided = max(layer.stride) > 1 and max(layer.kernel_size) == 1
    return strided and layer.groups == 1 and layer.in_channels < FEWEST_CHANNELS


def _contiguous(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].contiguous(),)
