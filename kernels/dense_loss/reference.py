"""Plain PyTorch: the distance that objectives on standardised targets use, and the dense loss on stored tokens.

    d(p, t) = 0.9 (1 - cos(p, t)) + 0.1 smooth_l1(p, t),   smooth_l1 with beta = 1, mean over the D channels
    dense_loss(p, q, s, w) = sum over n, t of w_nt d(p_nt, t_nt),   w_nt = 1 / (N T) where none are given

t is the stored token q, dequantised and turned back: the smooth-L1 is of the standardised channels, and unlike the
cosine no rotation leaves it as it is.

The cosine sets the direction; the smooth-L1 keeps the length, which cosine alone leaves free and which linear heads
trained on the teacher's features depend on. Source: AM-RADIO (Ranzinger et al., CVPR 2024, section 3.3: alpha = 0.9,
beta = 0.1), used again by Theia (Shang et al., CoRL 2024).

Shapes: N tiles, T token positions, D channels; … any leading axes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.dequantise.reference import dequantise

COSINE_WEIGHT = 0.9
EPS = 1e-8
"""Lengths below it count as it, in the cosine (PyTorch's own default)."""


def distance(prediction_D: Tensor, target_D: Tensor) -> Tensor:
    """d(prediction, target) per vector.

    Both (…, D), of one shape; the answer (…), fp32 (fp64 stays fp64), in [0, ∞). Half-precision input is widened first,
    since a mean of squares over D = 1024 channels loses the small differences that training is about.
    """
    if prediction_D.shape != target_D.shape:
        raise ValueError(f"prediction {tuple(prediction_D.shape)} and target {tuple(target_D.shape)} differ in shape")
    wide = torch.promote_types(prediction_D.dtype, torch.float32)
    p, t = prediction_D.to(wide), target_D.to(wide)
    angle = 1 - F.cosine_similarity(p, t, dim=-1, eps=EPS)
    length = F.smooth_l1_loss(p, t, reduction="none").mean(-1)
    return COSINE_WEIGHT * angle + (1 - COSINE_WEIGHT) * length


def stored_target(stored_NTD: Tensor, scale_NT: Tensor | None, rotation_block: int = 1) -> Tensor:
    """The standardised token that the cache holds, fp32: int8, scaled and unrotated, or float16 as it is."""
    return stored_NTD.float() if scale_NT is None else dequantise(stored_NTD, scale_NT, rotation_block)


def check(prediction_NTD: Tensor, scale_NT: Tensor | None, rotation_block: int) -> None:
    """Raises `ValueError` on fp16 predictions, whose gradient would underflow, and on rotated tokens without a scale.

    A gradient's entry is about 1 / (N T D) = 2e-8 at N = 256, T = 196, D = 1024; fp16 ends at 6e-8.
    """
    if prediction_NTD.dtype == torch.float16:
        raise ValueError("predictions are fp16, in which their gradient is zero: give bf16 or fp32")
    if rotation_block > 1 and scale_NT is None:
        raise ValueError(f"tokens without a scale are stored unrotated, not in blocks of {rotation_block} channels")


def dense_loss(
    prediction_NTD: Tensor,
    stored_NTD: Tensor,
    scale_NT: Tensor | None = None,
    weight_NT: Tensor | None = None,
    rotation_block: int = 1,
) -> Tensor:
    """The loss above: a scalar in fp32, differentiable in `prediction_NTD` (bf16, fp32 or fp64).

    `stored_NTD` int8 with `scale_NT` float16, or floating without one; `weight_NT` fp32; `rotation_block` as in
    kernels/hadamard, for int8 alone. Raises `ValueError` where `check` or `distance` does.
    """
    check(prediction_NTD, scale_NT, rotation_block)
    distance_NT = distance(prediction_NTD, stored_target(stored_NTD, scale_NT, rotation_block))
    return distance_NT.mean() if weight_NT is None else (distance_NT * weight_NT).sum()


def token_norm(stored_NTD: Tensor, scale_NT: Tensor | None = None) -> Tensor:
    """Euclidean length of each standardised token, (N, T) fp32; a rotation does not change it."""
    norm_NT: Tensor = torch.linalg.vector_norm(stored_target(stored_NTD, scale_NT), dim=-1)
    return norm_NT
