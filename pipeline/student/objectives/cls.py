"""Objective `cls`: the student's embedding against the teacher's CLS (or pooled) vector, both standardised."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kernels.dense_loss.reference import distance

Kind = Literal["cosine", "mse"]


def cls_loss(embedding_ND: Tensor, cls_ND: Tensor, kind: Kind = "cosine") -> Tensor:
    """How far the embeddings are from their targets, mean over N.

        cosine    d(embedding_n, cls_n) = 0.9 (1 - cos) + 0.1 smooth-L1; see `kernels.dense_loss.reference`
        mse       mean over D of (embedding_nd - cls_nd)²; 1 for an answer of zeros, since targets are standardised.
                  Source: FitNets (Romero et al., ICLR 2015), the regression that distillation of features began with

    `embedding_ND` (N, D) the student's answer, any float; `cls_ND` (N, D) the target, standardised with the statistics
    of the train corpus. A scalar in fp32 (fp64 stays fp64). Raises `ValueError` where shapes differ.
    """
    if kind == "cosine":
        return distance(embedding_ND, cls_ND).mean()
    if embedding_ND.shape != cls_ND.shape:
        raise ValueError(f"embedding {tuple(embedding_ND.shape)} and target {tuple(cls_ND.shape)} differ in shape")
    wide = torch.promote_types(embedding_ND.dtype, torch.float32)
    return (embedding_ND.to(wide) - cls_ND.to(wide)).square().mean()
