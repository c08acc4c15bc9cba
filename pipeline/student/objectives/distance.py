"""The distance that every objective on standardised targets uses.

    d(p, t) = 0.9 (1 - cos(p, t)) + 0.1 smooth_l1(p, t),   smooth_l1 with beta = 1, mean over the D channels

The cosine sets the direction; the smooth-L1 keeps the length, which cosine alone leaves free and which linear heads
trained on the teacher's features depend on. Source: AM-RADIO (Ranzinger et al., CVPR 2024, section 3.3: alpha = 0.9,
beta = 0.1), used again by Theia (Shang et al., CoRL 2024).

Shapes: D width of the teacher; … any leading axes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

COSINE_WEIGHT = 0.9


def distance(prediction_D: Tensor, target_D: Tensor) -> Tensor:
    """d(prediction, target) per vector.

    Both (…, D), of one shape; the answer (…), fp32 (fp64 stays fp64), in [0, ∞). Half-precision input is widened first,
    since a mean of squares over D = 1024 channels loses the small differences that training is about.
    """
    if prediction_D.shape != target_D.shape:
        raise ValueError(f"prediction {tuple(prediction_D.shape)} and target {tuple(target_D.shape)} differ in shape")
    wide = torch.promote_types(prediction_D.dtype, torch.float32)
    p, t = prediction_D.to(wide), target_D.to(wide)
    angle = 1 - F.cosine_similarity(p, t, dim=-1)
    length = F.smooth_l1_loss(p, t, reduction="none").mean(-1)
    return COSINE_WEIGHT * angle + (1 - COSINE_WEIGHT) * length
