"""The dense loss' kernel against its reference, loss and gradient, where interpreted.py's kernels are run."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from kernels.dense_loss import kernel, reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Case(NamedTuple):
    prediction_NTD: Tensor
    stored_NTD: Tensor
    scale_NT: Tensor | None
    weight_NT: Tensor | None
    upstream: float
    rotation_block: int = 1


def case(
    width: int, dtype: torch.dtype, *, int8: bool = True, weighted: bool = False, upstream: float = 1.0, n: int = 3
) -> Case:
    g = torch.Generator().manual_seed(width)
    prediction_NTD = (torch.randn(n, 4, width, generator=g) * 2).to(DEVICE, dtype)
    stored_NTD = torch.randint(-127, 128, (n, 4, width), dtype=torch.int8, generator=g).to(DEVICE)
    scale_NT = (torch.rand(n, 4, generator=g) * 0.03 + 1e-3).half().to(DEVICE)
    weight_NT = torch.rand(n, 4, generator=g).to(DEVICE) if weighted else None
    if weight_NT is not None:
        weight_NT[0, 1] = 0
    if not int8:
        return Case(prediction_NTD, (stored_NTD * scale_NT[..., None]).half(), None, weight_NT, upstream)
    return Case(prediction_NTD, stored_NTD, scale_NT, weight_NT, upstream)


def with_zeros() -> Case:
    """A prediction of zeros, a token of zeros, and both at once."""
    made = case(8, torch.float32)
    made.prediction_NTD[0, 0] = made.prediction_NTD[0, 1] = 0
    made.stored_NTD[0, 1] = made.stored_NTD[0, 2] = 0
    return made


CASES = {
    "fp32": case(64, torch.float32),
    "fp32, width no power of two": case(24, torch.float32),
    "bf16, width no power of two": case(100, torch.bfloat16),
    "weights": case(40, torch.float32, weighted=True),
    "bf16, weights, upstream gradient": case(48, torch.bfloat16, weighted=True, upstream=-2.5),
    "float16 tokens": case(16, torch.float32, int8=False, upstream=3.0),
    "a ViT-L's width": case(1024, torch.float32, n=1),
    "zeros": with_zeros(),
    "rotated": case(64, torch.float32)._replace(rotation_block=16),
    "rotated, bf16, weights, width no power of two": case(48, torch.bfloat16, weighted=True)._replace(rotation_block=8),
}


@pytest.mark.parametrize("name", CASES)
def test_kernel_gives_the_references_loss_and_gradient(name: str) -> None:
    prediction_NTD, stored_NTD, scale_NT, weight_NT, upstream, block = CASES[name]
    answers = []
    for loss_of in (kernel.dense_loss, reference.dense_loss):
        leaf = prediction_NTD.clone().requires_grad_()
        loss = loss_of(leaf, stored_NTD, scale_NT, weight_NT, block)
        loss.backward(torch.tensor(upstream, device=DEVICE))
        assert leaf.grad is not None
        answers.append((loss.detach(), leaf.grad))
    (loss, gradient_NTD), (expected, expected_NTD) = answers
    assert gradient_NTD.dtype == prediction_NTD.dtype
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    # Rounded to half precision before the upstream gradient multiplies it, and after: two roundings, not one.
    rtol = 1e-5 if prediction_NTD.dtype == torch.float32 else 2 * torch.finfo(prediction_NTD.dtype).eps
    atol = 1e-6 * float(expected_NTD.abs().max()) + 1e-7
    torch.testing.assert_close(gradient_NTD, expected_NTD, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", CASES)
def test_kernel_gives_the_references_norms(name: str) -> None:
    found, expected = (
        module.token_norm(CASES[name].stored_NTD, CASES[name].scale_NT) for module in (kernel, reference)
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0.0)


def test_kernel_refuses_a_second_backward_pass() -> None:
    prediction_NTD, stored_NTD, scale_NT, *_ = CASES["zeros"]
    loss = kernel.dense_loss(prediction_NTD.clone().requires_grad_(), stored_NTD, scale_NT)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="compute the loss again"):
        loss.backward()


def test_kernel_and_reference_refuse_alike() -> None:
    prediction_NTD, stored_NTD, scale_NT, *_ = case(16, torch.float32)
    for arguments in ((prediction_NTD.half(), stored_NTD, scale_NT), (prediction_NTD, stored_NTD)):
        said = []
        for module in (kernel, reference):
            with pytest.raises(ValueError) as refused:
                module.dense_loss(*arguments, rotation_block=8)
            said.append(str(refused.value))
        assert said[0] == said[1]
