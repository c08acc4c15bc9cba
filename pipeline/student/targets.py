"""Standardising the teacher's answers, so that every channel counts alike in the losses, and undoing it at export.

    z = (x - mean) / scale                 one scale a channel

Training answers z. The teacher's space is x = W z + b, an affine map that folds into the last linear layer, so that the
exported student answers x at no cost.

Shapes: N samples, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.student.corpus import Corpus, cls_statistics


@dataclass(frozen=True)
class Standardiser:
    """z = (x - mean) / scale, all fp32."""

    mean_D: Tensor
    scale_D: Tensor

    def to(self, device: torch.device) -> Standardiser:
        """The same on `device`."""
        return Standardiser(self.mean_D.to(device), self.scale_D.to(device))

    def forward(self, x_ND: Tensor) -> Tensor:
        """The teacher's answer, any float, to z_ND in fp32."""
        return (x_ND.float() - self.mean_D) / self.scale_D

    def inverse(self) -> tuple[Tensor, Tensor]:
        """(W_DD, b_D) in float64, with x = W z + b."""
        return torch.diag(self.scale_D.double()), self.mean_D.double()

    @torch.no_grad()
    def fold_into(self, linear: nn.Linear) -> None:
        """Make a layer that answers z answer x, in place."""
        weight_DD, bias_D = self.inverse()
        linear.bias.copy_((weight_DD @ linear.bias.double() + bias_D).float())
        linear.weight.copy_((weight_DD @ linear.weight.double()).float())

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """As they lie in weights.safetensors: `{prefix}_mean`, `{prefix}_scale`."""
        return {f"{prefix}_mean": self.mean_D, f"{prefix}_scale": self.scale_D}

    @classmethod
    def from_tensors(cls, prefix: str, tensors: Mapping[str, Tensor]) -> Standardiser:
        """What `tensors` gave."""
        return cls(tensors[f"{prefix}_mean"], tensors[f"{prefix}_scale"])


def cls_standardiser(corpus: Corpus) -> Standardiser:
    """Of the cached CLS, over all train tiles and views."""
    mean_D, std_D = cls_statistics(corpus)
    return Standardiser(torch.from_numpy(mean_D), torch.from_numpy(std_D))


def patch_standardiser(corpus: Corpus) -> Standardiser:
    """Of the cached patch tokens: the frozen statistics with which the tokens stage stored them."""
    reader = corpus.tokens[0]
    return Standardiser(torch.from_numpy(reader.mu), torch.from_numpy(reader.sigma))
