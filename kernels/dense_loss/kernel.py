"""The dense loss in Triton: a program a token reads prediction and stored token once, and writes loss and gradient.

Eager PyTorch makes a dozen (N, T, D) fp32 arrays: the dequantised target, the widened prediction, their difference,
squares and products, and as many again backward. At N = 256, T = 196, D = 1024 each is 205 MB. Here the only (N, T, D)
arrays are the prediction, the int8 tokens, and the gradient in the prediction's own type: 2 + 1 + 2 bytes an element
move with bf16, where a kernel bound by memory cannot do with less.

The gradient is computed forward, where everything is in registers, for an upstream gradient of 1. Backward hands it on;
where the upstream gradient (an objective's weight) is another number, `_rescale` multiplies it in, and the decision is
taken on the device, so that nothing waits.

Sums run over a token's channels within one program and over tokens in PyTorch: no atomics, so a run repeats its bits.

It has run in Triton's interpreter only: its speed on a GPU is not measured.

Shapes: R = N * T tokens, D channels, B the power of two that holds D.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.dense_loss.reference import COSINE_WEIGHT, EPS, check
from kernels.hadamard.kernel import transform
from kernels.hadamard.reference import signs_over


@triton.jit  # type: ignore[untyped-decorator]
def _stored(stored_ptr, scale_ptr, row, at_B, inside_B, D, HAS_SCALE: tl.constexpr):  # type: ignore[no-untyped-def]
    """The token of a row as it was stored, scaled, fp32, 0 beyond D."""
    stored_B = tl.load(stored_ptr + row * D + at_B, mask=inside_B, other=0).to(tl.float32)
    if HAS_SCALE:
        stored_B *= tl.load(scale_ptr + row).to(tl.float32)
    return stored_B


@triton.jit  # type: ignore[untyped-decorator]
def _loss(  # type: ignore[no-untyped-def]
    prediction_ptr,
    stored_ptr,
    scale_ptr,
    weight_ptr,
    signs_ptr,
    loss_ptr,
    gradient_ptr,
    even,
    root,
    D,
    B: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    COSINE: tl.constexpr,
    EPS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    at_B = tl.arange(0, B)
    inside_B = at_B < D
    p_B = tl.load(prediction_ptr + row * D + at_B, mask=inside_B, other=0).to(tl.float32)
    t_B = _stored(stored_ptr, scale_ptr, row, at_B, inside_B, D, HAS_SCALE)
    if BLOCK > 1:
        # Turned back: the smooth-L1 is of the standardised channels, and no rotation leaves it as it is.
        t_B = transform(t_B, BLOCK, B) * root * tl.load(signs_ptr + at_B, mask=inside_B, other=0)

    p_length = tl.sqrt(tl.sum(p_B * p_B, 0))
    p_norm = tl.maximum(p_length, EPS)
    t_norm = tl.maximum(tl.sqrt(tl.sum(t_B * t_B, 0)), EPS)
    cosine = tl.sum(p_B * t_B, 0) / (p_norm * t_norm)
    error_B = p_B - t_B
    size_B = tl.abs(error_B)
    smooth = tl.sum(tl.where(size_B < 1, 0.5 * error_B * error_B, size_B - 0.5), 0) / D

    weight = even
    if HAS_WEIGHT:
        weight = tl.load(weight_ptr + row)
    tl.store(loss_ptr + row, weight * (COSINE * (1 - cosine) + (1 - COSINE) * smooth))

    # Below EPS the length is held constant, and with it goes the second term.
    turn = tl.where(p_length > EPS, cosine / (p_norm * p_norm), 0.0)
    d_cosine_B = t_B / (p_norm * t_norm) - turn * p_B
    d_smooth_B = tl.where(size_B < 1, error_B, tl.where(error_B > 0, 1.0, -1.0)) / D
    gradient_B = weight * ((1 - COSINE) * d_smooth_B - COSINE * d_cosine_B)
    tl.store(gradient_ptr + row * D + at_B, gradient_B.to(gradient_ptr.dtype.element_ty), mask=inside_B)


@triton.jit  # type: ignore[untyped-decorator]
def _rescale(gradient_ptr, upstream_ptr, D, B: tl.constexpr):  # type: ignore[no-untyped-def]
    upstream = tl.load(upstream_ptr)
    if upstream != 1.0:
        at_B = tl.arange(0, B)
        place_B = gradient_ptr + tl.program_id(0).to(tl.int64) * D + at_B
        gradient_B = tl.load(place_B, mask=at_B < D, other=0).to(tl.float32)
        tl.store(place_B, (gradient_B * upstream).to(gradient_ptr.dtype.element_ty), mask=at_B < D)


@triton.jit  # type: ignore[untyped-decorator]
def _norm(stored_ptr, scale_ptr, norm_ptr, D, B: tl.constexpr, HAS_SCALE: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    at_B = tl.arange(0, B)
    t_B = _stored(stored_ptr, scale_ptr, row, at_B, at_B < D, D, HAS_SCALE)
    tl.store(norm_ptr + row, tl.sqrt(tl.sum(t_B * t_B, 0)))


class DenseLoss(torch.autograd.Function):
    """`dense_loss` with its gradient computed forward; can be differentiated once, and backward once."""

    @staticmethod
    def forward(
        ctx: Any,
        prediction_NTD: Tensor,
        stored_NTD: Tensor,
        scale_NT: Tensor | None,
        weight_NT: Tensor | None,
        rotation_block: int,
    ) -> Tensor:
        prediction_NTD, width = prediction_NTD.contiguous(), prediction_NTD.shape[-1]
        gradient_NTD = torch.empty_like(prediction_NTD)
        loss_R = torch.empty(prediction_NTD.shape[:-1].numel(), dtype=torch.float32, device=prediction_NTD.device)
        _loss[(len(loss_R),)](
            prediction_NTD,
            stored_NTD.contiguous(),
            None if scale_NT is None else scale_NT.contiguous(),
            None if weight_NT is None else weight_NT.float().contiguous(),
            signs_over(width, rotation_block, prediction_NTD.device) if rotation_block > 1 else None,
            loss_R,
            gradient_NTD,
            1 / len(loss_R),
            1 / math.sqrt(rotation_block),
            width,
            **_shape(width),
            BLOCK=rotation_block,
            HAS_SCALE=scale_NT is not None,
            HAS_WEIGHT=weight_NT is not None,
            COSINE=COSINE_WEIGHT,
            EPS=EPS,
        )
        ctx.gradient_NTD = gradient_NTD
        return loss_R.sum()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        gradient_NTD: Tensor | None = ctx.gradient_NTD
        if gradient_NTD is None:
            raise RuntimeError("the dense loss keeps its gradient for one backward pass; compute the loss again")
        ctx.gradient_NTD = None
        width = gradient_NTD.shape[-1]
        _rescale[(gradient_NTD.shape[:-1].numel(),)](gradient_NTD, upstream[0].contiguous(), width, **_shape(width))
        return gradient_NTD, None, None, None, None


def dense_loss(
    prediction_NTD: Tensor,
    stored_NTD: Tensor,
    scale_NT: Tensor | None = None,
    weight_NT: Tensor | None = None,
    rotation_block: int = 1,
) -> Tensor:
    """As `reference.dense_loss`, on a GPU (or in Triton's interpreter). fp32 or bf16 predictions."""
    check(prediction_NTD, scale_NT, rotation_block)
    if prediction_NTD.shape != stored_NTD.shape:
        raise ValueError(f"prediction {tuple(prediction_NTD.shape)} and stored {tuple(stored_NTD.shape)} differ")
    loss: Tensor = DenseLoss.apply(prediction_NTD, stored_NTD, scale_NT, weight_NT, rotation_block)
    return loss


def token_norm(stored_NTD: Tensor, scale_NT: Tensor | None = None) -> Tensor:
    """As `reference.token_norm`."""
    norm_NT = torch.empty(stored_NTD.shape[:-1], dtype=torch.float32, device=stored_NTD.device)
    width = stored_NTD.shape[-1]
    scale = None if scale_NT is None else scale_NT.contiguous()
    _norm[(norm_NT.numel(),)](
        stored_NTD.contiguous(), scale, norm_NT, width, **_shape(width), HAS_SCALE=scale_NT is not None
    )
    return norm_NT


def _shape(width: int) -> dict[str, int]:
    """The block that holds a token, and warps for 8 to 16 channels a thread."""
    block = triton.next_power_of_2(width)
    return {"B": block, "num_warps": min(16, max(1, block // 256))}
