"""Objective `patch`: the adapter's dense map against the teacher's patch tokens, token by token."""

from __future__ import annotations

from torch import Tensor

from pipeline.student.objectives.distance import distance


def patch_loss(map_NTD: Tensor, patch_NTD: Tensor) -> Tensor:
    """mean over N and T of d(map_nt, patch_nt); see `distance` for d and its source.

    `map_NTD` (N, T, D) the adapter's answer at the teacher's T positions, any float; `patch_NTD` (N, T, D) the target:
    the cached token, dequantised, which is standardised already. A scalar in fp32.
    """
    return distance(map_NTD, patch_NTD).mean()
