"""Plain PyTorch: LayerNorm, CLS split, standardise, rotate, int8 with one float16 scale a token.

Shapes: N tiles, L = n_prefix + T tokens, T patch tokens, D channels.

Why standardise first: DINO-like tokens have a few massive channels; a token's absmax then belongs to them and leaves
the others a handful of levels. After z = (x - mu) / sigma every channel has its share. Why rotate then: see
`kernels.hadamard.reference`. docs/quantisation.md has the figures.

LayerNorm's own weights and the standardising are both affine per channel, and so are the rotation's signs and its
1 / sqrt(B): all of them are one gain and one offset, `folded` once a teacher and applied in the LayerNorm's own pass.

The scale is rounded to float16 *before* it divides, so that z ~ int8 * scale holds with the scale that is stored. It is
kept among float16's normal numbers: a token of zeros needs no special case, and one beyond 8.3e6 deviations saturates.
A token with NaN or inf in it has a scale of NaN, and ints that mean nothing: checking the scales checks all tokens.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.hadamard.reference import signs_over, transform

LEVELS = 127
SCALE_MIN = 2.0**-14
SCALE_MAX = 65504.0


def epilogue(
    raw_NLD: Tensor,
    norm_weight_D: Tensor | None,
    norm_bias_D: Tensor | None,
    eps: float,
    n_prefix: int,
    gain_D: Tensor,
    offset_D: Tensor,
    rotation_block: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """(cls_ND float32, q_NTD int8, scale_NT float16) of the hidden state before the last LayerNorm.

    `gain_D` and `offset_D` are `folded` from the same norm, for the patch tokens; its own weights are for CLS alone.
    Without `norm_weight_D` there is no LayerNorm; without `norm_bias_D` it has none. CLS is token 0 after the norm, in
    the teacher's own space. Raises `ValueError` for `n_prefix` 0: such a teacher has no CLS token to split off.
    """
    if n_prefix < 1:
        raise ValueError("no prefix token, no CLS: use `quantise`")
    cls_ND, patch_NTD = raw_NLD[:, 0].float(), raw_NLD[:, n_prefix:].float()
    if norm_weight_D is None:
        z_NTD = torch.addcmul(offset_D, patch_NTD, gain_D)
    else:
        norm_bias = None if norm_bias_D is None else norm_bias_D.float()
        cls_ND = F.layer_norm(cls_ND, norm_weight_D.shape, norm_weight_D.float(), norm_bias, eps)
        z_NTD = F.layer_norm(patch_NTD, norm_weight_D.shape, gain_D, offset_D, eps)
    return cls_ND, *to_int8(transform(z_NTD, rotation_block))


def quantise(patch_NTD: Tensor, gain_D: Tensor, offset_D: Tensor, rotation_block: int) -> tuple[Tensor, Tensor]:
    """(q_NTD int8, scale_NT float16) of patch tokens in the teacher's own space, any leading dimensions.

    `gain_D` and `offset_D` are `folded` without a norm.
    """
    return to_int8(transform(torch.addcmul(offset_D, patch_NTD.float(), gain_D), rotation_block))


def standardise(patch_NTD: Tensor, mu_D: Tensor, sigma_D: Tensor) -> Tensor:
    """z = (x - mu) / sigma in float32, not rotated; `sigma_D` must be positive."""
    return (patch_NTD.float() - mu_D) / sigma_D


def folded(
    norm_weight_D: Tensor | None, norm_bias_D: Tensor | None, mu_D: Tensor, sigma_D: Tensor, rotation_block: int
) -> tuple[Tensor, Tensor]:
    """(gain_D, offset_D) float32: what is left of weights, standardising, signs and 1 / sqrt(B) after (x - mean) / std.

    gain = weight / sigma * signs / sqrt(B), offset = (bias - mu) / sigma * signs / sqrt(B).
    """
    unit_D = signs_over(len(mu_D), rotation_block, mu_D.device) / (sigma_D.float() * math.sqrt(rotation_block))
    gain_D = unit_D if norm_weight_D is None else norm_weight_D.float() * unit_D
    offset_D = (-mu_D.float() if norm_bias_D is None else norm_bias_D.float() - mu_D.float()) * unit_D
    return gain_D, offset_D


def to_int8(z_NTD: Tensor) -> tuple[Tensor, Tensor]:
    """Round tokens to int8 steps of their own scales: (q_NTD in -127..127, scale_NT float16). Overwrites `z_NTD`.

    |q * scale - z| <= scale / 2 wherever |z| <= 127 * 65504.
    """
    absmax_NT = torch.linalg.vector_norm(z_NTD, math.inf, -1)
    scale_NT = (absmax_NT / LEVELS).clamp(SCALE_MIN, SCALE_MAX).half()
    scale_NT = scale_NT.masked_fill(~torch.isfinite(absmax_NT), math.nan)
    steps_NTD = z_NTD.mul_(scale_NT.float().reciprocal().unsqueeze(-1))
    return steps_NTD.clamp_(-LEVELS, LEVELS).round_().to(torch.int8), scale_NT
