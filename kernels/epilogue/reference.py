"""Plain PyTorch: LayerNorm, CLS split, standardise, rotate, int8 with one float16 scale a token.

Shapes: N tiles, L = n_prefix + T tokens, T patch tokens, D channels.

Why standardise first: DINO-like tokens have a few massive channels; a token's absmax then belongs to them and leaves
the others a handful of levels. After z = (x - mu) / sigma every channel has its share. Why rotate then: see
`kernels.hadamard.reference`. docs/quantisation.md has the figures.

LayerNorm's own weights and the standardising are both affine per channel, and so are the rotation's signs and its
1 / sqrt(B): all of them are one gain and one offset, folded once a teacher and applied in the LayerNorm's own pass.

The scale is rounded to float16 *before* it divides, so that z ~ int8 * scale holds with the scale that is stored. It is
kept among float16's normal numbers: a token of zeros needs no special case, and one beyond 8.3e6 deviations saturates.
A token with NaN or inf in it has a scale of NaN, and ints that mean nothing: checking the scales checks all tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.hadamard.reference import signs_over, transform

LEVELS = 127
SCALE_MIN = 2.0**-14
SCALE_MAX = 65504.0


@dataclass(frozen=True)
class Norm:
    """A teacher's last LayerNorm: its weight and bias (None: without one), (D,), of any float type."""

    weight_D: Tensor
    bias_D: Tensor | None
    eps: float


@dataclass(frozen=True)
class Folded:
    """What a hidden state goes through, as `fold` makes it once a teacher.

    `gain_D` and `offset_D`, float32, are the patch tokens': LayerNorm's own weights, standardising and rotation.
    """

    gain_D: Tensor
    offset_D: Tensor
    rotation_block: int
    norm: Norm | None
    """Its own weights are for CLS alone; None: no LayerNorm."""
    n_prefix: int
    """Tokens before the patch tokens, CLS first; 0 where there are patch tokens alone."""


def fold(mu_D: Tensor, sigma_D: Tensor, rotation_block: int, norm: Norm | None = None, n_prefix: int = 0) -> Folded:
    """What is left of weights, standardising, signs and 1 / sqrt(B) after (x - mean) / std.

    gain = weight / sigma * signs / sqrt(B), offset = (bias - mu) / sigma * signs / sqrt(B); `sigma_D` is positive.
    """
    unit_D = signs_over(len(mu_D), rotation_block, mu_D.device) / (sigma_D.float() * math.sqrt(rotation_block))
    weight_D, bias_D = (None, None) if norm is None else (norm.weight_D, norm.bias_D)
    gain_D = unit_D if weight_D is None else weight_D.float() * unit_D
    offset_D = (-mu_D.float() if bias_D is None else bias_D.float() - mu_D.float()) * unit_D
    return Folded(gain_D, offset_D, rotation_block, norm, n_prefix)


def epilogue(raw_NLD: Tensor, folded: Folded) -> tuple[Tensor, Tensor, Tensor]:
    """(cls_ND float32, q_NTD int8, scale_NT float16) of the hidden state before the last LayerNorm.

    CLS is token 0 after the norm, in the teacher's own space. Raises `ValueError` for a teacher without prefix tokens:
    it has no CLS token to split off.
    """
    check_prefix(folded)
    cls_ND, patch_NTD, norm = raw_NLD[:, 0].float(), raw_NLD[:, folded.n_prefix :].float(), folded.norm
    if norm is None:
        z_NTD = torch.addcmul(folded.offset_D, patch_NTD, folded.gain_D)
    else:
        width, bias_D = norm.weight_D.shape, None if norm.bias_D is None else norm.bias_D.float()
        cls_ND = F.layer_norm(cls_ND, width, norm.weight_D.float(), bias_D, norm.eps)
        z_NTD = F.layer_norm(patch_NTD, width, folded.gain_D, folded.offset_D, norm.eps)
    return cls_ND, *to_int8(transform(z_NTD, folded.rotation_block))


def quantise(patch_NTD: Tensor, folded: Folded) -> tuple[Tensor, Tensor]:
    """(q_NTD int8, scale_NT float16) of patch tokens in the teacher's own space, any leading dimensions.

    Raises `ValueError` for what was folded with a norm, which is not applied here.
    """
    check_no_norm(folded)
    z_NTD = torch.addcmul(folded.offset_D, patch_NTD.float(), folded.gain_D)
    return to_int8(transform(z_NTD, folded.rotation_block))


def check_prefix(folded: Folded) -> None:
    """Raises `ValueError` where there is no CLS to split off."""
    if folded.n_prefix < 1:
        raise ValueError("no prefix token, no CLS: use `quantise`")


def check_no_norm(folded: Folded) -> None:
    """Raises `ValueError` where the tokens would have to be normalised first."""
    if folded.norm is not None:
        raise ValueError("folded with a norm: use `epilogue`")


def standardise(patch_NTD: Tensor, mu_D: Tensor, sigma_D: Tensor) -> Tensor:
    """z = (x - mu) / sigma in float32, not rotated; `sigma_D` must be positive."""
    return (patch_NTD.float() - mu_D) / sigma_D


def to_int8(z_NTD: Tensor) -> tuple[Tensor, Tensor]:
    """Round tokens to int8 steps of their own scales: (q_NTD in -127..127, scale_NT float16). Overwrites `z_NTD`.

    |q * scale - z| <= scale / 2 wherever |z| <= 127 * 65504.
    """
    absmax_NT = torch.linalg.vector_norm(z_NTD, math.inf, -1)
    scale_NT = (absmax_NT / LEVELS).clamp(SCALE_MIN, SCALE_MAX).half()
    scale_NT = scale_NT.masked_fill(~torch.isfinite(absmax_NT), math.nan)
    steps_NTD = z_NTD.mul_(scale_NT.float().reciprocal().unsqueeze(-1))
    return steps_NTD.clamp_(-LEVELS, LEVELS).round_().to(torch.int8), scale_NT
