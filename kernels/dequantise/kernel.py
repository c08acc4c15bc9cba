"""Dequantise as one Triton kernel: int8 read once, float32 written once, the rotation undone in registers.

What bounds it is the write, four bytes an element. It has run in Triton's interpreter only: its speed is not measured.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.hadamard.kernel import transform
from kernels.hadamard.reference import signs_over

ROWS = 4


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    q_ptr,
    scale_ptr,
    signs_ptr,
    z_ptr,
    n_tokens,
    root,
    D: tl.constexpr,
    P: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    d_P = tl.arange(0, P)
    here_P = d_P < D
    signs_P = tl.load(signs_ptr + d_P, mask=here_P, other=0.0)
    for row in range(ROWS):
        token = tl.program_id(0).to(tl.int64) * ROWS + row
        if token < n_tokens:
            q_P = tl.load(q_ptr + token * D + d_P, mask=here_P, other=0).to(tl.float32)
            scale = tl.load(scale_ptr + token).to(tl.float32) * root
            tl.store(z_ptr + token * D + d_P, transform(q_P, BLOCK, P) * scale * signs_P, mask=here_P)


def dequantise(q_NTD: Tensor, scale_NT: Tensor, rotation_block: int = 1) -> Tensor:
    """As `reference.dequantise`, to the bit."""
    q_NTD, scale_NT, width = q_NTD.contiguous(), scale_NT.contiguous(), q_NTD.shape[-1]
    signs_D = signs_over(width, rotation_block, q_NTD.device)
    z_NTD = torch.empty(q_NTD.shape, dtype=torch.float32, device=q_NTD.device)
    grid = (triton.cdiv(scale_NT.numel(), ROWS),)
    constants = {"D": width, "P": triton.next_power_of_2(width), "BLOCK": rotation_block, "ROWS": ROWS}
    _kernel[grid](q_NTD, scale_NT, signs_D, z_NTD, scale_NT.numel(), 1.0 / math.sqrt(rotation_block), **constants)
    return z_NTD
