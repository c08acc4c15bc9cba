"""Plain PyTorch: standardise per channel, then int8 with one float16 scale a token.

Shapes: N any leading dimensions (tiles, views, tokens), D channels.

Why standardise first: DINO-like tokens have a few massive channels; a token's absmax then belongs to them and leaves
the others a handful of levels. After z = (x - mu) / sigma every channel has its share: on synthetic tokens 0.88%
relative L2 against 6.6%.

The scale is rounded to float16 *before* it divides, so that z ~ int8 * scale holds with the scale that is stored. It is
kept among float16's normal numbers: a token of zeros needs no special case, and one beyond 8.3e6 deviations saturates.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 127
SCALE_MIN = 2.0**-14
SCALE_MAX = 65504.0


def standardise(x_ND: Tensor, mu_D: Tensor, sigma_D: Tensor) -> Tensor:
    """z = (x - mu) / sigma in float32; `sigma_D` must be positive."""
    return (x_ND.float() - mu_D) / sigma_D


def quantise(z_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Round a standardised token to int8 steps of its own scale: (q_ND int8 in -127..127, scale_N float16).

    |q * scale - z| <= scale / 2 wherever |z| <= 127 * 65504; NaN and inf are the caller's to refuse.
    """
    z_ND = z_ND.float()
    absmax_N = z_ND.abs().amax(-1)
    scale_N = (absmax_N / LEVELS).clamp(SCALE_MIN, SCALE_MAX).half()
    q_ND = (z_ND / scale_N.float().unsqueeze(-1)).round().clamp(-LEVELS, LEVELS).to(torch.int8)
    return q_ND, scale_N


def dequantise(q_ND: Tensor, scale_N: Tensor) -> Tensor:
    """The standardised token again, float32: z = q * scale."""
    return q_ND.float() * scale_N.float().unsqueeze(-1)
