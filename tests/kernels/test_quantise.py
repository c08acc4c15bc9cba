import hypothesis.extra.numpy as npst
import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given

from kernels.quantise.reference import LEVELS, SCALE_MAX, dequantise, quantise, standardise

tokens = npst.arrays(
    np.float32,
    npst.array_shapes(min_dims=2, max_dims=3, max_side=7),
    elements=st.floats(-8e6, 8e6, width=32),
)


@given(tokens)
def test_round_trip_is_within_half_a_step(z_ND):
    q_ND, scale_N = quantise(torch.from_numpy(z_ND))
    assert q_ND.dtype == torch.int8 and scale_N.dtype == torch.float16
    error_ND = (dequantise(q_ND, scale_N).double() - torch.from_numpy(z_ND).double()).abs()
    step_N1 = scale_N.double().unsqueeze(-1)
    assert (error_ND <= step_N1 * (0.5 + 1e-4)).all()


@given(tokens)
def test_quantising_what_was_dequantised_changes_nothing(z_ND):
    once = dequantise(*quantise(torch.from_numpy(z_ND)))
    twice = dequantise(*quantise(once))
    assert torch.equal(once, twice)


def test_a_token_of_zeros_stays_zero():
    q_ND, scale_N = quantise(torch.zeros(3, 8))
    assert not q_ND.any() and torch.isfinite(scale_N).all()
    assert not dequantise(q_ND, scale_N).any()


def test_a_token_beyond_the_scale_saturates_and_stays_finite():
    back = dequantise(*quantise(torch.tensor([[1e30, -1e30, 0.0]])))
    assert back.tolist() == [[LEVELS * SCALE_MAX, -LEVELS * SCALE_MAX, 0.0]]


def test_standardising_first_keeps_small_channels_beside_a_massive_one():
    generator = torch.Generator().manual_seed(0)
    sigma_D = torch.ones(64)
    sigma_D[3] = 500.0
    x_ND = torch.randn(256, 64, generator=generator) * sigma_D + 5
    z_ND = standardise(x_ND, torch.full((64,), 5.0), sigma_D)
    assert (dequantise(*quantise(z_ND)) - z_ND).norm() / z_ND.norm() < 0.01
    assert (dequantise(*quantise(x_ND))[:, 0] - x_ND[:, 0]).norm() / x_ND[:, 0].norm() > 0.05
