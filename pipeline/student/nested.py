"""Nested sizes: one vector whose first k numbers are themselves an embedding, for every k that is asked for.

    n = P f + b                     f the student's features before its last layer, n the nested vector, K numbers
    loss = mean over k of d(W_k n[:k] + c_k, CLS*)            each k with a linear head of its own, as `cls` compares

Source: Matryoshka representations (Kusupati et al., NeurIPS 2022), there with a classifier a size; for encoders of
pathology distilled with cosine and smooth-L1, Pathryoshka (Grashei et al., arXiv 2511.23204).

Why a projection and not the features themselves, as Kusupati et al. have it: features come after an activation, so
their first k are one-sided and of uneven spread; a net may have fewer of them than a size asks for; and a trunk that
must order its channels does so at the expense of the full answer, which is what heads trained on the teacher are given.
The projection costs F K weights beside millions, and the last layer stays as it is without it.

The heads are exported too: W_k brings k stored numbers back into the teacher's space. They are not the truncation of
one another, so a k that was not asked for has none.

Shapes: N tiles, F features, K the largest size, k a size, D the teacher's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.base.errors import TrainingError


class Nested(nn.Module):
    """The projection to the nested vector, and a head a size into the teacher's space. `sizes` rise."""

    def __init__(self, sizes: Sequence[int], features: int, width: int) -> None:
        super().__init__()
        self.sizes, self.width = tuple(sizes), width
        self.project = nn.Linear(features, self.sizes[-1])
        self.heads = nn.ModuleDict({str(size): nn.Linear(size, width) for size in self.sizes})

    @property
    def features(self) -> int:
        """F."""
        return self.project.in_features

    def head(self, size: int) -> nn.Linear:
        """From the first `size` numbers into the teacher's space."""
        layer = self.heads[str(size)]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, feature_NF: Tensor) -> list[Tensor]:
        """What each size answers in the teacher's space, [(N, D)]."""
        nested_NK = self.project(feature_NF)
        return [self.head(size)(nested_NK[:, :size]) for size in self.sizes]


def drawn(backbone: Any, input_px: int, sizes: Sequence[int], width: int, seed: int) -> Nested:
    """Of a timm model's features, with weights drawn from `seed`; torch's own random state stays.

    Raises `TrainingError` for a size too large, and where timm does not show the features.
    """
    features, device = require_features(backbone, input_px)
    for most, what in (
        (width - 1, f"the teacher answers in {width} numbers"),
        (features, f"the student has {features} features"),
    ):
        if sizes[-1] > most:
            fix = f"student.nested: sizes up to {most}; the full embedding is exported in any case"
            raise TrainingError(
                f"an embedding of {sizes[-1]} is no smaller part of it: {what}", where="student.nested", fix=fix
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Nested(sizes, features, width).to(device)


@torch.no_grad()
def require_features(backbone: Any, input_px: int) -> tuple[int, torch.device]:
    """How many features the last layer makes its answer of, and where it is.

    Raises `TrainingError` where it makes it of others than timm shows.
    """
    layer, was = backbone.get_classifier(), backbone.training
    device = layer.weight.device
    backbone.eval()
    try:
        final = backbone.forward_features(torch.zeros(1, 3, input_px, input_px, device=device))
        whole_1D = backbone.forward_head(final)
        parted_1D = layer(backbone.forward_head(final, pre_logits=True))
        same = whole_1D.shape == parted_1D.shape and torch.allclose(whole_1D, parted_1D, rtol=1e-4, atol=1e-5)
    except (RuntimeError, TypeError):
        # A head that takes no `pre_logits`, or shows features of another shape.
        same = False
    finally:
        backbone.train(was)
    if not same:
        fix = "leave student.nested empty, or take another student.model (efficientvit_b0 …)"
        name = backbone.pretrained_cfg["architecture"]
        raise TrainingError("timm does not show the features before its last layer", where=name, fix=fix)
    return layer.in_features, device
