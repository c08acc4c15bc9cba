"""Objective `patch`: the adapter's dense map against the teacher's patch tokens, token by token.

Large ViTs put global notes into a few tokens of dull background: tokens of high norm that say nothing of their place
("Vision Transformers Need Registers", Darcet et al., ICLR 2024). A student that copies them learns noise, and a map
with holes; `unremarkable` tells them from the rest, so that the loss can leave them out.

Shapes: N tiles, T teacher positions, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.dense_loss import dense_loss

OUTLIER = 6.0
"""Deviations above the tile's median from which a token's norm is an artefact's."""
SPREAD_FLOOR = 0.05
"""Smallest deviation, as a share of the median: where all tokens are alike, a small difference is no artefact."""
MAD_TO_DEVIATION = 1.4826
"""Of a normal distribution: deviation over median absolute deviation."""


def patch_loss(
    map_NTD: Tensor,
    stored_NTD: Tensor,
    scale_NT: Tensor | None = None,
    mask_NT: Tensor | None = None,
    rotation_block: int = 1,
) -> Tensor:
    """mean over N of the mean over T of d(map_nt, token_nt); see `kernels.dense_loss.reference` for d and its source.

    `map_NTD` the adapter's answer at the teacher's T positions, any float; `stored_NTD` and `scale_NT` the tokens as
    cached (int8 with a scale each, rotated in blocks of `rotation_block` channels; or floating without), standardised
    per channel; `mask_NT` True where a token counts, at least one a tile. Each tile counts alike however many of its
    tokens do, so the loss of a batch is the mean over the processes that share it. A scalar in fp32.
    """
    if mask_NT is None:
        return dense_loss(map_NTD, stored_NTD, scale_NT, rotation_block=rotation_block)
    counted_N1 = mask_NT.sum(1, keepdim=True)
    weight_NT = mask_NT.float() / (counted_N1 * len(mask_NT))
    return dense_loss(map_NTD, stored_NTD, scale_NT, weight_NT, rotation_block)


def unremarkable(norm_NT: Tensor) -> Tensor:
    """True where a token's norm is no artefact's, (N, T).

        norm_nt <= m_n + 6 max(1.4826 mad_n, 0.05 m_n),   m_n, mad_n median and median absolute deviation of tile n

    `norm_NT` length of the standardised tokens, fp32. Standardised, not raw: in raw space a channel or two that are
    large in every token make most of the length. The median and its deviation do not feel the outliers, up to half of
    the tokens; both are of one tile, so that a tile's mask depends on no other tile. A norm that is NaN counts, so that
    the loss shows it.
    """
    median_N1 = norm_NT.median(1, keepdim=True).values
    deviation_N1 = MAD_TO_DEVIATION * (norm_NT - median_N1).abs().median(1, keepdim=True).values
    limit_N1 = median_N1 + OUTLIER * torch.maximum(deviation_N1, SPREAD_FLOOR * median_N1)
    return ~(norm_NT > limit_N1)
