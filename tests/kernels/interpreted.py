"""The tokens' kernels against their references, on the GPU, or in Triton's interpreter where TRITON_INTERPRET is 1.

Not collected by itself: Triton reads the variable when it is first imported, so test_kernels.py gives this file a
process of its own.
"""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from bench.kernels import agreement
from kernels.dequantise import kernel as dequantise_kernel
from kernels.epilogue import kernel as epilogue_kernel
from kernels.epilogue import reference
from kernels.hadamard.blocks import block_of

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EPS = 1e-6
MANY = (196, 256) if DEVICE == "cuda" else (13, 16)
"""Tokens of a tile of 14 x 14 and of 16 x 16, fewer where each is interpreted."""


@pytest.mark.parametrize(
    ("n_prefix", "tokens", "width", "dtype"),
    [
        (1, MANY[0], 24, torch.float32),
        (5, MANY[1], 35, torch.bfloat16),
        (1, 5, 1280, torch.float16),
        (5, 9, 384, torch.float32),
        (1, 7, 1024, torch.bfloat16),
    ],
)
def test_the_epilogue_is_its_references(n_prefix, tokens, width, dtype):
    raw_NLD, (weight_D, bias_D, mu_D, sigma_D) = agreement.hidden_state(2, n_prefix + tokens, width, dtype, DEVICE)
    folded = reference.fold(mu_D, sigma_D, block_of(width), reference.Norm(weight_D, bias_D, EPS), n_prefix)
    agreement.epilogue_agrees(epilogue_kernel.epilogue, raw_NLD, folded)


@settings(max_examples=8)
@given(
    n=st.integers(1, 3),
    n_prefix=st.integers(1, 5),
    tokens=st.integers(1, 6),
    width=st.integers(1, 140),
    bias=st.booleans(),
    norm=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_epilogue_is_its_references_whatever_the_shape(n, n_prefix, tokens, width, bias, norm, seed):
    raw_NLD, (weight_D, bias_D, mu_D, sigma_D) = agreement.hidden_state(
        n, n_prefix + tokens, width, torch.float32, DEVICE, seed
    )
    own = reference.Norm(weight_D, bias_D if bias else None, EPS) if norm else None
    folded = reference.fold(mu_D, sigma_D, block_of(width), own, n_prefix)
    agreement.epilogue_agrees(epilogue_kernel.epilogue, raw_NLD, folded)


@pytest.mark.parametrize("width", [24, 35, 384])
def test_quantise_is_its_references_on_a_view_too(width):
    raw_NLD, (_, _, mu_D, sigma_D) = agreement.hidden_state(2, 7, width, torch.float32, DEVICE)
    for patch_NTD in (raw_NLD, raw_NLD[:, 3:], raw_NLD.transpose(0, 1)):
        folded = reference.fold(mu_D, sigma_D, block_of(width))
        agreement.ints_agree(*epilogue_kernel.quantise(patch_NTD, folded), *reference.quantise(patch_NTD, folded))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, in the interpreter, about the very NaN under test
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_token_that_is_not_finite_is_told_by_its_scale(broken):
    raw_NLD, (weight_D, bias_D, mu_D, sigma_D) = agreement.hidden_state(2, 5, 24, torch.float32, DEVICE)
    raw_NLD[1, 4, 3] = broken
    for norm in (reference.Norm(weight_D, bias_D, EPS), None):
        agreement.epilogue_agrees(epilogue_kernel.epilogue, raw_NLD, reference.fold(mu_D, sigma_D, 8, norm, 1))


@settings(max_examples=8)
@given(tokens=st.integers(1, 9), width=st.integers(1, 140), seed=st.integers(0, 99))
def test_dequantise_is_its_references_to_the_bit(tokens, width, seed):
    generator = torch.Generator().manual_seed(seed)
    q_NTD = torch.randint(-127, 128, (2, tokens, width), dtype=torch.int8, generator=generator).to(DEVICE)
    scale_NT = torch.rand(2, tokens, generator=generator).half().to(DEVICE)
    agreement.dequantise_agrees(dequantise_kernel.dequantise, q_NTD, scale_NT, block_of(width))
