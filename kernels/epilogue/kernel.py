"""The epilogue as one Triton kernel: each token is read once, at its own precision, and written once, as int8.

A program takes ROWS neighbouring tokens, one after the other; a token is in registers from its load to its store, and
the channels' gain and offset stay there for all of them. What bounds it is the read: ViT-L/16 in bf16 is 402 KB in and
201 KB out a tile, about 0.13 us at 4.8 TB/s. It has run in Triton's interpreter only: its speed is not measured.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.epilogue.reference import LEVELS, SCALE_MAX, SCALE_MIN, Folded, check_no_norm, check_prefix
from kernels.hadamard.kernel import transform

ROWS = 4
_ROUND = 12582912.0
"""1.5 * 2^23: adding it leaves no bits for a fraction, so that subtracting it again has rounded half to even."""


@triton.jit  # type: ignore[untyped-decorator]
def _patch_kernel(  # type: ignore[no-untyped-def]
    raw_ptr,
    stride_n,
    stride_l,
    gain_ptr,
    offset_ptr,
    q_ptr,
    scale_ptr,
    n_tokens,
    T,
    eps,
    n_prefix,
    D: tl.constexpr,
    P: tl.constexpr,
    NORM: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    LEVELS: tl.constexpr,
    SCALE_MIN: tl.constexpr,
    SCALE_MAX: tl.constexpr,
    ROUND: tl.constexpr,
):
    d_P = tl.arange(0, P)
    here_P = d_P < D
    gain_P = tl.load(gain_ptr + d_P, mask=here_P, other=0.0)
    offset_P = tl.load(offset_ptr + d_P, mask=here_P, other=0.0)
    for row in range(ROWS):
        token = tl.program_id(0).to(tl.int64) * ROWS + row
        if token < n_tokens:
            at = raw_ptr + (token // T) * stride_n + (n_prefix + token % T) * stride_l
            x_P = tl.load(at + d_P, mask=here_P, other=0.0).to(tl.float32)
            if NORM:
                x_P = tl.where(here_P, x_P - tl.sum(x_P) / D, 0.0)
                x_P = x_P * tl.rsqrt(tl.sum(x_P * x_P) / D + eps)
            z_P = transform(x_P * gain_P + offset_P, BLOCK, P)
            # A maximum may pass over NaN, so what is not finite is counted.
            broken = tl.sum(tl.where(tl.abs(z_P) < float("inf"), 0, 1))
            scale = tl.minimum(tl.maximum(tl.max(tl.abs(z_P)) / LEVELS, SCALE_MIN), SCALE_MAX).to(tl.float16)
            steps_P = z_P * (1.0 / scale.to(tl.float32))
            steps_P = tl.minimum(tl.maximum(steps_P, -LEVELS), LEVELS)
            q_P = tl.where(broken == 0, (steps_P + ROUND) - ROUND, 0.0)
            tl.store(q_ptr + token * D + d_P, q_P.to(tl.int8), mask=here_P)
            tl.store(scale_ptr + token, tl.where(broken == 0, scale.to(tl.float32), float("nan")).to(tl.float16))


@triton.jit  # type: ignore[untyped-decorator]
def _cls_kernel(  # type: ignore[no-untyped-def]
    raw_ptr, stride_n, weight_ptr, bias_ptr, cls_ptr, eps, D: tl.constexpr, P: tl.constexpr, BIAS: tl.constexpr
):
    d_P = tl.arange(0, P)
    here_P = d_P < D
    n = tl.program_id(0).to(tl.int64)
    x_P = tl.load(raw_ptr + n * stride_n + d_P, mask=here_P, other=0.0).to(tl.float32)
    x_P = tl.where(here_P, x_P - tl.sum(x_P) / D, 0.0)
    x_P = x_P * tl.rsqrt(tl.sum(x_P * x_P) / D + eps) * tl.load(weight_ptr + d_P, mask=here_P).to(tl.float32)
    if BIAS:
        x_P += tl.load(bias_ptr + d_P, mask=here_P).to(tl.float32)
    tl.store(cls_ptr + n * D + d_P, x_P, mask=here_P)


def epilogue(raw_NLD: Tensor, folded: Folded) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.epilogue`."""
    check_prefix(folded)
    raw_NLD, norm = raw_NLD if raw_NLD.stride(-1) == 1 else raw_NLD.contiguous(), folded.norm
    if norm is None:
        cls_ND = raw_NLD[:, 0].float()
    else:
        n, _, width = raw_NLD.shape
        cls_ND = torch.empty((n, width), dtype=torch.float32, device=raw_NLD.device)
        bias_D = norm.weight_D if norm.bias_D is None else norm.bias_D
        constants = {"D": width, "P": triton.next_power_of_2(width), "BIAS": norm.bias_D is not None}
        _cls_kernel[(n,)](raw_NLD, raw_NLD.stride(0), norm.weight_D, bias_D, cls_ND, norm.eps, **constants)
    return cls_ND, *_patch(raw_NLD, folded, folded.n_prefix)


def quantise(patch_NTD: Tensor, folded: Folded) -> tuple[Tensor, Tensor]:
    """As `reference.quantise`, for (N, T, D)."""
    patch_NTD = patch_NTD if patch_NTD.stride(-1) == 1 else patch_NTD.contiguous()
    check_no_norm(folded)
    return _patch(patch_NTD, folded, 0)


def _patch(raw_NLD: Tensor, folded: Folded, n_prefix: int) -> tuple[Tensor, Tensor]:
    n, length, width = raw_NLD.shape
    tokens = length - n_prefix
    q_NTD = torch.empty((n, tokens, width), dtype=torch.int8, device=raw_NLD.device)
    scale_NT = torch.empty((n, tokens), dtype=torch.float16, device=raw_NLD.device)
    _patch_kernel[(triton.cdiv(n * tokens, ROWS),)](
        raw_NLD,
        raw_NLD.stride(0),
        raw_NLD.stride(1),
        folded.gain_D,
        folded.offset_D,
        q_NTD,
        scale_NT,
        n * tokens,
        tokens,
        0.0 if folded.norm is None else folded.norm.eps,
        n_prefix,
        D=width,
        P=triton.next_power_of_2(width),
        NORM=folded.norm is not None,
        BLOCK=folded.rotation_block,
        ROWS=ROWS,
        LEVELS=LEVELS,
        SCALE_MIN=SCALE_MIN,
        SCALE_MAX=SCALE_MAX,
        ROUND=_ROUND,
    )
    return q_NTD, scale_NT
