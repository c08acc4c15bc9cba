import math

import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from made.training import in_float64

from kernels.hadamard import reference
from kernels.hadamard.blocks import MAX_BLOCK, block_of
from kernels.hadamard.reference import matrix, signs, signs_over, transform

BLOCKS = [1, 2, 8, 16, 64]


@given(st.integers(1, 5000))
def test_the_block_is_the_largest_power_of_two_that_divides_the_width_within_the_limit(width):
    block = block_of(width)
    assert block & (block - 1) == 0 and width % block == 0
    assert block == MAX_BLOCK or width % (2 * block) != 0


@pytest.mark.parametrize("block", BLOCKS)
def test_the_matrix_is_scipys(block):
    assert torch.equal(matrix(block), torch.from_numpy(scipy.linalg.hadamard(block)).float())


def test_the_tables_are_float32_whatever_torch_makes_by_default(monkeypatch):
    monkeypatch.setattr(reference, "_SIGNS", {})
    monkeypatch.setattr(reference, "_MATRICES", {})
    with in_float64():
        assert matrix(8).dtype == signs(8).dtype == torch.float32


@pytest.mark.parametrize("block", BLOCKS)
def test_turning_forth_and_back_is_nothing_and_keeps_lengths(block):
    x_ND = torch.randn(5, 3 * block, generator=torch.Generator().manual_seed(0))
    signs_D = signs_over(3 * block, block)
    turned_ND = transform(x_ND * signs_D, block) / math.sqrt(block)
    torch.testing.assert_close(turned_ND.norm(dim=-1), x_ND.norm(dim=-1))
    torch.testing.assert_close(transform(turned_ND, block) * signs_D / math.sqrt(block), x_ND)


@pytest.mark.parametrize("block", [4, 16, 64])
def test_the_signs_spread_a_constant_evenly_over_the_block(block):
    assert set((signs(block) @ matrix(block)).abs().tolist()) == {math.sqrt(block)}


def test_a_block_that_does_not_fill_the_width_or_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match="do not fill"):
        signs_over(24, 16)
    with pytest.raises(ValueError, match="power of two"):
        matrix(6)
