import math

import pytest
import torch

from kernels.dequantise import dequantise
from kernels.hadamard.reference import matrix, signs_over


@pytest.mark.parametrize(("width", "block"), [(24, 8), (35, 1), (384, 64)])
def test_it_is_the_ints_turned_back_and_scaled(width, block):
    generator = torch.Generator().manual_seed(0)
    q_NTD = torch.randint(-127, 128, (2, 9, width), dtype=torch.int8, generator=generator)
    scale_NT = torch.rand(2, 9, generator=generator).half()
    turned = q_NTD.double().unflatten(-1, (-1, block)) @ matrix(block).double() / math.sqrt(block)
    expected_NTD = turned.flatten(-2) * signs_over(width, block) * scale_NT.double().unsqueeze(-1)
    z_NTD = dequantise(q_NTD, scale_NT, block)
    assert z_NTD.dtype == torch.float32
    torch.testing.assert_close(z_NTD.double(), expected_NTD, rtol=1e-6, atol=0)


def test_the_ints_are_left_as_they_were():
    q_NTD = torch.ones(1, 2, 8, dtype=torch.int8)
    dequantise(q_NTD, torch.full((1, 2), 2.0).half(), 8)
    assert q_NTD.eq(1).all()
