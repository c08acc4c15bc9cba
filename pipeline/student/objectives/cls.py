"""Objective `cls`: the student's embedding against the teacher's CLS (or pooled) vector, both standardised."""

from __future__ import annotations

from torch import Tensor

from pipeline.student.objectives.distance import distance


def cls_loss(embedding_ND: Tensor, cls_ND: Tensor) -> Tensor:
    """mean over N of d(embedding_n, cls_n); see `distance` for d and its source.

    `embedding_ND` (N, D) the student's answer, any float; `cls_ND` (N, D) the target, standardised per channel with the
    train corpus's mean and deviation. A scalar in fp32.
    """
    return distance(embedding_ND, cls_ND).mean()
