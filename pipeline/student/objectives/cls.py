"""Objective `cls`: the student's embedding against the teacher's CLS (or pooled) vector, both standardised."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.dense_loss.reference import distance

Kind = Literal["cosine", "mse", "smooth_l1"]
"""Kinds that compare an embedding with its own target alone; `terms` has those that compare it with a bank too."""


def cls_loss(embedding_ND: Tensor, cls_ND: Tensor, kind: Kind = "cosine") -> Tensor:
    """How far the embeddings are from their targets, mean over N.

        cosine    d(embedding_n, cls_n) = 0.9 (1 - cos) + 0.1 smooth-L1; see `kernels.dense_loss.reference`
        mse       mean over D of (embedding_nd - cls_nd)²; 1 for an answer of zeros, since targets are standardised.
                  Source: FitNets (Romero et al., ICLR 2015), the regression that distillation of features began with
        smooth_l1 mean over D of smooth-L1 (beta = 1): mse up to an error of one deviation, beyond it only as large as
                  the error, so that a channel with outliers rules no gradient. Source: Huber's loss as Fast R-CNN has
                  it (Girshick, ICCV 2015); for features AM-RADIO (Ranzinger et al., CVPR 2024), there beside a cosine

    `embedding_ND` (N, D) the student's answer, any float; `cls_ND` (N, D) the target, standardised with the statistics
    of the train corpus. A scalar in fp32 (fp64 stays fp64). Raises `ValueError` where shapes differ.
    """
    if kind == "cosine":
        return distance(embedding_ND, cls_ND).mean()
    if embedding_ND.shape != cls_ND.shape:
        raise ValueError(f"embedding {tuple(embedding_ND.shape)} and target {tuple(cls_ND.shape)} differ in shape")
    wide = torch.promote_types(embedding_ND.dtype, torch.float32)
    if kind == "smooth_l1":
        return F.smooth_l1_loss(embedding_ND.to(wide), cls_ND.to(wide))
    return (embedding_ND.to(wide) - cls_ND.to(wide)).square().mean()
