import math

import hypothesis.extra.numpy as npst
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given

from kernels.dequantise import dequantise
from kernels.epilogue import Norm, epilogue, fold, quantise, standardise
from kernels.epilogue.reference import LEVELS, SCALE_MAX, to_int8
from kernels.hadamard.blocks import block_of

z_tokens = npst.arrays(
    np.float32,
    npst.array_shapes(min_dims=2, max_dims=3, max_side=7),
    elements=st.floats(-8e6, 8e6, width=32),
)


def channels(width: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """(weight, bias, mu, sigma), (D,) each."""
    generator = torch.Generator().manual_seed(seed)
    weight_D, sigma_D = (torch.rand(width, generator=generator) + 0.5 for _ in range(2))
    bias_D, mu_D = (torch.randn(width, generator=generator) for _ in range(2))
    return weight_D, bias_D, mu_D, sigma_D


@given(z_tokens)
def test_rounding_is_within_half_a_step(z_ND):
    q_ND, scale_N = to_int8(torch.from_numpy(z_ND).clone())
    assert q_ND.dtype == torch.int8 and scale_N.dtype == torch.float16
    error_ND = (dequantise(q_ND, scale_N).double() - torch.from_numpy(z_ND).double()).abs()
    step_N1 = scale_N.double().unsqueeze(-1)
    assert (error_ND <= step_N1 * (0.5 + 1e-4)).all()


@given(z_tokens)
def test_rounding_what_was_rounded_changes_nothing(z_ND):
    once = dequantise(*to_int8(torch.from_numpy(z_ND).clone()))
    assert torch.equal(once, dequantise(*to_int8(once.clone())))


@pytest.mark.parametrize("n_prefix", [1, 5])
@pytest.mark.parametrize("width", [24, 35, 384])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_pass_is_norm_split_standardise_and_int8(n_prefix, width, dtype):
    weight_D, bias_D, mu_D, sigma_D = channels(width)
    raw_NLD = (torch.randn(3, n_prefix + 49, width, generator=torch.Generator().manual_seed(1)) * 4 + 1).to(dtype)
    block = block_of(width)
    cls_ND, q_NTD, scale_NT = epilogue(raw_NLD, fold(mu_D, sigma_D, block, Norm(weight_D, bias_D, 1e-6), n_prefix))
    normed_NLD = F.layer_norm(raw_NLD.float(), (width,), weight_D, bias_D, 1e-6)
    torch.testing.assert_close(cls_ND, normed_NLD[:, 0])
    z_NTD = standardise(normed_NLD[:, n_prefix:], mu_D, sigma_D)
    error_NT = (dequantise(q_NTD, scale_NT, block) - z_NTD).norm(dim=-1)
    assert (error_NT <= scale_NT.float() * 0.5 * math.sqrt(width) + 1e-4).all()
    assert error_NT.norm() / z_NTD.norm() < 0.01


def test_without_a_norm_the_cls_is_token_0_and_the_rest_is_quantised():
    _, _, mu_D, sigma_D = channels(24)
    raw_NLD = torch.randn(2, 10, 24, generator=torch.Generator().manual_seed(1))
    cls_ND, q_NTD, scale_NT = epilogue(raw_NLD, fold(mu_D, sigma_D, 8, n_prefix=1))
    expected_q, expected_scale = quantise(raw_NLD[:, 1:], fold(mu_D, sigma_D, 8))
    assert torch.equal(cls_ND, raw_NLD[:, 0])
    assert torch.equal(q_NTD, expected_q) and torch.equal(scale_NT, expected_scale)


def test_the_input_is_left_as_it_was():
    _, _, mu_D, sigma_D = channels(24)
    raw_NLD = torch.randn(2, 10, 24)
    before = raw_NLD.clone()
    epilogue(raw_NLD, fold(mu_D, sigma_D, 8, n_prefix=1))
    quantise(raw_NLD, fold(mu_D, sigma_D, 1))
    assert torch.equal(raw_NLD, before)


def test_a_teacher_without_prefix_tokens_has_no_cls_to_split_off():
    with pytest.raises(ValueError, match="quantise"):
        epilogue(torch.zeros(1, 4, 8), fold(torch.zeros(8), torch.ones(8), 8))


def test_what_was_folded_with_a_norm_is_not_quantised_without_it():
    weight_D, bias_D, mu_D, sigma_D = channels(8)
    with pytest.raises(ValueError, match="epilogue"):
        quantise(torch.zeros(1, 4, 8), fold(mu_D, sigma_D, 8, Norm(weight_D, bias_D, 1e-6), 1))


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_token_that_is_not_finite_has_a_scale_of_nan_and_the_others_do_not(broken):
    weight_D, bias_D, mu_D, sigma_D = channels(24)
    raw_NLD = torch.randn(2, 10, 24, generator=torch.Generator().manual_seed(1))
    raw_NLD[1, 4, 3] = broken
    _, _, scale_NT = epilogue(raw_NLD, fold(mu_D, sigma_D, 8, Norm(weight_D, bias_D, 1e-6), 1))
    assert torch.isnan(scale_NT).nonzero().tolist() == [[1, 3]]


def test_a_token_of_zeros_stays_zero():
    q_ND, scale_N = quantise(torch.zeros(3, 8), fold(torch.zeros(8), torch.ones(8), 8))
    assert not q_ND.any() and torch.isfinite(scale_N).all()
    assert not dequantise(q_ND, scale_N, 8).any()


def test_a_token_beyond_the_scale_saturates_and_stays_finite():
    back = dequantise(*to_int8(torch.tensor([[1e30, -1e30, 0.0]])))
    assert back.tolist() == [[LEVELS * SCALE_MAX, -LEVELS * SCALE_MAX, 0.0]]


def test_standardising_first_keeps_small_channels_beside_a_massive_one():
    generator = torch.Generator().manual_seed(0)
    sigma_D, mu_D = torch.ones(64), torch.full((64,), 5.0)
    sigma_D[3] = 500.0
    x_ND = torch.randn(256, 64, generator=generator) * sigma_D + 5
    z_ND = standardise(x_ND, mu_D, sigma_D)
    assert (dequantise(*quantise(x_ND, fold(mu_D, sigma_D, 1))) - z_ND).norm() / z_ND.norm() < 0.01
    assert (dequantise(*to_int8(x_ND.clone()))[:, 0] - x_ND[:, 0]).norm() / x_ND[:, 0].norm() > 0.05


def test_rotating_first_keeps_what_lies_beside_a_tokens_own_outlier():
    z_ND = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    z_ND[torch.arange(256), torch.arange(256) % 64] = 30.0
    straight, turned = (
        (dequantise(*quantise(z_ND, fold(torch.zeros(64), torch.ones(64), block)), block) - z_ND).norm() / z_ND.norm()
        for block in (1, 64)
    )
    assert turned < straight / 2
