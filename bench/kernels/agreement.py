"""Whether a kernel's answers are its reference's: what the tests check, and what every bench checks before it times.

One tolerance everywhere, interpreter and GPU. The epilogue's sums run in another order than the reference's, so a value
next to a rounding tie may fall on its other side: no int differs by more than one level, at most one in a hundred
differs at all, and scales are float16 neighbours. Dequantising is exact. The dense loss agrees to float32's sums, and
its gradient to two roundings of the prediction's own type: before the upstream gradient multiplies it, and after.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels.dense_loss import reference as loss_reference
from kernels.dequantise import reference as dequantise_reference
from kernels.epilogue import reference as epilogue_reference

MAX_LEVELS, MAX_SHARE, SCALE_RTOL, CLS_TOL = 1, 0.01, 1e-3, 1e-5
LOSS_RTOL, UPSTREAM = 1e-5, -2.5

Epilogue = Callable[[Tensor, epilogue_reference.Folded], tuple[Tensor, Tensor, Tensor]]
Dequantise = Callable[[Tensor, Tensor, int], Tensor]
DenseLoss = Callable[..., Tensor]
Norm = Callable[[Tensor, Tensor], Tensor]


def hidden_state(
    n: int, length: int, width: int, dtype: torch.dtype, device: str, seed: int = 0
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(raw_NLD, (weight, bias, mu, sigma) (D,) each) of seeded noise with a few massive channels, as ViTs have."""
    generator = torch.Generator().manual_seed(seed)
    raw_NLD = torch.randn(n, length, width, generator=generator) * 2 + 0.5
    raw_NLD[..., :: max(2, width // 4)] *= 30
    weight_D, sigma_D = (torch.rand(width, generator=generator) + 0.5 for _ in range(2))
    bias_D, mu_D = (torch.randn(width, generator=generator) for _ in range(2))
    channels = tuple(values_D.to(device) for values_D in (weight_D, bias_D, mu_D, sigma_D))
    return raw_NLD.to(device, dtype), channels


def epilogue_agrees(kernel: Epilogue, raw_NLD: Tensor, folded: epilogue_reference.Folded) -> None:
    """Raises `AssertionError` that says by how much the kernel's answer differs from the reference's."""
    (cls_ND, q_NTD, scale_NT), expected = kernel(raw_NLD, folded), epilogue_reference.epilogue(raw_NLD, folded)
    torch.testing.assert_close(cls_ND, expected[0], rtol=CLS_TOL, atol=CLS_TOL, equal_nan=True)
    ints_agree(q_NTD, scale_NT, *expected[1:])


def ints_agree(q_NTD: Tensor, scale_NT: Tensor, expected_q_NTD: Tensor, expected_scale_NT: Tensor) -> None:
    """The same for ints and scales; a token that is not finite must be known as such, its ints do not matter."""
    torch.testing.assert_close(scale_NT.float(), expected_scale_NT.float(), rtol=SCALE_RTOL, atol=0.0, equal_nan=True)
    levels_MD = (q_NTD.int() - expected_q_NTD.int()).abs()[torch.isfinite(expected_scale_NT)]
    worst, share = int(levels_MD.max()), float((levels_MD > 0).float().mean())
    if worst > MAX_LEVELS or share > MAX_SHARE:
        raise AssertionError(f"ints differ by up to {worst} levels, {share:.2%} of them at all")


def dequantise_agrees(kernel: Dequantise, q_NTD: Tensor, scale_NT: Tensor, rotation_block: int) -> None:
    """Raises `AssertionError` where a single bit differs."""
    z_NTD = kernel(q_NTD, scale_NT, rotation_block)
    expected_NTD = dequantise_reference.dequantise(q_NTD, scale_NT, rotation_block)
    torch.testing.assert_close(z_NTD, expected_NTD, rtol=0.0, atol=0.0)


def dense_loss_agrees(
    kernel: DenseLoss,
    prediction_NTD: Tensor,
    stored_NTD: Tensor,
    scale_NT: Tensor | None,
    weight_NT: Tensor | None,
    rotation_block: int,
) -> None:
    """Raises `AssertionError` that says by how much loss or gradient differ, upstream gradient `UPSTREAM`."""
    answers = []
    for loss_of in (kernel, loss_reference.dense_loss):
        leaf = prediction_NTD.detach().clone().requires_grad_()
        loss = loss_of(leaf, stored_NTD, scale_NT, weight_NT, rotation_block)
        loss.backward(torch.tensor(UPSTREAM, device=loss.device))  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        answers.append((loss.detach(), leaf.grad))
    (loss, gradient_NTD), (expected, expected_NTD) = answers
    torch.testing.assert_close(loss, expected, rtol=LOSS_RTOL, atol=1e-6)
    rtol = LOSS_RTOL if prediction_NTD.dtype == torch.float32 else 2 * torch.finfo(prediction_NTD.dtype).eps
    atol = 1e-6 * float(expected_NTD.abs().max()) + 1e-7
    torch.testing.assert_close(gradient_NTD, expected_NTD, rtol=rtol, atol=atol)


def norms_agree(kernel: Norm, stored_NTD: Tensor, scale_NT: Tensor) -> None:
    """Raises `AssertionError` where a token's length is not its reference's."""
    expected_NT = loss_reference.token_norm(stored_NTD, scale_NT)
    torch.testing.assert_close(kernel(stored_NTD, scale_NT), expected_NT, rtol=LOSS_RTOL, atol=0.0)
