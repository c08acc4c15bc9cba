"""Students whose first layers end a torch process on a CPU in channels-last are trained all the same."""

from __future__ import annotations

import subprocess

import pytest
import torch
from made.python_server import loaded_python
from torch import nn

from pipeline.teachers.layout import ends_the_process, to_channels_last

STEP = """
import torch
from pipeline.student.model import build
for name in ("repvgg_a0", "mobileone_s0", "fastvit_t8"):
    made, _ = build(model=name, width=8, input_px=64, adapter=None, grid=(2, 2), seed=0)
    ((embedding_ND, _),) = made(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8))
    embedding_ND.square().mean().backward()
    print(name, flush=True)
"""


def test_a_step_of_a_student_with_a_strided_convolution_of_the_image_ends_well() -> None:
    """In a process of its own, which a signal ended."""
    done = subprocess.run([loaded_python(), "-c", STEP], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.split() == ["repvgg_a0", "mobileone_s0", "fastvit_t8"], done.stderr


@pytest.mark.parametrize(
    ("layer", "ends"),
    [
        (nn.Conv2d(3, 8, 1, 2), True),
        (nn.Conv2d(3, 8, 1, 3), True),
        (nn.Conv2d(3, 8, 1, 1), False),
        (nn.Conv2d(3, 8, 3, 2), False),
        (nn.Conv2d(8, 8, 1, 2), False),
        (nn.Conv2d(3, 3, 1, 2, groups=3), False),
    ],
)
def test_those_layers_alone_stay_contiguous_and_give_the_same_gradient(layer: nn.Conv2d, ends: bool) -> None:
    assert ends_the_process(layer) == ends
    torch.manual_seed(0)
    image_NCHW = torch.randn(4, layer.in_channels, 16, 16)
    layer(image_NCHW).square().mean().backward()
    expected = layer.weight.grad.clone()
    layer.weight.grad = None
    placed = to_channels_last(to_channels_last(layer))
    assert len(placed._forward_pre_hooks) == ends
    placed(image_NCHW.to(memory_format=torch.channels_last)).square().mean().backward()
    torch.testing.assert_close(placed.weight.grad, expected)


def test_a_network_with_weights_of_five_dimensions_is_laid_out_too() -> None:
    """As LambdaNets have them; torch itself refuses such a module."""
    both = to_channels_last(nn.ModuleList([nn.Conv3d(1, 4, (1, 3, 3)), nn.Conv2d(8, 8, 3)]))
    assert both[1].weight.is_contiguous(memory_format=torch.channels_last) and both[0].weight.is_contiguous()
