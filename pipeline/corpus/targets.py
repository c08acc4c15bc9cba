"""Standardising the teacher's answers, so that no few channels rule the losses, and undoing it at export.

    z = R ((x - mean) / scale)
    channel     scale the deviation of each channel, R = 1
    phi-s       scale one number, R the rotation of `phi_s`: the geometry of x, evenly spread

Training answers z. The teacher's space is x = W z + b, an affine map that folds into the last linear layer, so that the
exported student answers x at no cost.

Patch tokens are cached standardised per channel, and stay so. A rotation on top would cost D² = 1 MMAC a token, twice
the student itself, and change next to nothing: cosines are the same in a rotated space.

Shapes: N samples, K tiles of the bank, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.phi_s import phi_s
from pipeline.corpus.statistics import cls_statistics, covariance


@dataclass(frozen=True)
class Standardiser:
    """z = R ((x - mean) / scale), all fp32; no rotation is R = 1."""

    mean_D: Tensor
    scale_D: Tensor
    rotation_DD: Tensor | None = None

    def to(self, device: torch.device) -> Standardiser:
        """The same on `device`."""
        rotation_DD = None if self.rotation_DD is None else self.rotation_DD.to(device)
        return Standardiser(self.mean_D.to(device), self.scale_D.to(device), rotation_DD)

    def forward(self, x_ND: Tensor) -> Tensor:
        """The teacher's answer, any float, to z_ND in fp32."""
        z_ND = (x_ND.float() - self.mean_D) / self.scale_D
        return z_ND if self.rotation_DD is None else z_ND @ self.rotation_DD.T

    def inverse(self) -> tuple[Tensor, Tensor]:
        """(W_DD, b_D) in float64, with x = W z + b."""
        scale_DD = torch.diag(self.scale_D.double())
        back_DD = scale_DD if self.rotation_DD is None else scale_DD @ self.rotation_DD.double().T
        return back_DD, self.mean_D.double()

    @torch.no_grad()
    def fold_into(self, linear: nn.Linear) -> None:
        """Make a layer that answers z answer x, in place."""
        weight_DD, bias_D = self.inverse()
        linear.bias.copy_((weight_DD @ linear.bias.double() + bias_D).float())
        linear.weight.copy_((weight_DD @ linear.weight.double()).float())

    @torch.no_grad()
    def unfold_from(self, linear: nn.Linear) -> None:
        """Make a layer that answers x answer z, in place: what `fold_into` undoes."""
        scale_D1 = self.scale_D.double()[:, None]
        weight_DD = linear.weight.double() / scale_D1
        bias_D = (linear.bias.double() - self.mean_D.double()) / self.scale_D.double()
        if self.rotation_DD is not None:
            rotation_DD = self.rotation_DD.double()
            weight_DD, bias_D = rotation_DD @ weight_DD, rotation_DD @ bias_D
        linear.weight.copy_(weight_DD.float())
        linear.bias.copy_(bias_D.float())

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """As they lie in weights.safetensors: `{prefix}_mean`, `{prefix}_scale`, and `{prefix}_rotation` if any."""
        found = {f"{prefix}_mean": self.mean_D, f"{prefix}_scale": self.scale_D}
        return found if self.rotation_DD is None else {**found, f"{prefix}_rotation": self.rotation_DD}

    @classmethod
    def from_tensors(cls, prefix: str, tensors: Mapping[str, Tensor]) -> Standardiser:
        """What `tensors` gave."""
        return cls(tensors[f"{prefix}_mean"], tensors[f"{prefix}_scale"], tensors.get(f"{prefix}_rotation"))


def cls_standardiser(corpus: Corpus, kind: Literal["channel", "phi-s"] = "channel") -> Standardiser:
    """Of the cached CLS, over all tiles that are trained on and all views.

    Sums are in float64, slide after slide, so the same corpus gives the same bits on the same machine. Raises
    `TrainingError` on NaN or inf.
    """
    mean_D, std_D = cls_statistics(corpus)
    if kind == "channel":
        return Standardiser(torch.from_numpy(mean_D), torch.from_numpy(std_D))
    rotation_DD, scale = phi_s(covariance(corpus, mean_D))
    scale_D = torch.full((corpus.width,), scale, dtype=torch.float32)
    return Standardiser(torch.from_numpy(mean_D), scale_D, torch.from_numpy(rotation_DD).float().contiguous())


def patch_standardiser(corpus: Corpus) -> Standardiser:
    """Of the cached patch tokens: the frozen statistics with which the tokens stage stored them."""
    reader = corpus.tokens[0]
    return Standardiser(torch.from_numpy(reader.mu), torch.from_numpy(reader.sigma))


def draw_cls(corpus: Corpus, count: int, seed: int) -> NDArray[np.float16]:
    """`count` cached CLS (all, if there are fewer) of distinct tiles and views, in the teacher's space, (K, D).

    The same for every process and after every restart: the draw depends on the corpus and the seed alone.
    """
    first_of_slide = np.cumsum([0, *(len(corpus.kept(slide)) for slide in range(len(corpus.items)))])
    total = int(first_of_slide[-1]) * corpus.views
    drawn_K = np.random.default_rng(seed).choice(total, min(count, total), replace=False, shuffle=False)
    tile_K, view_K = np.divmod(np.sort(drawn_K), corpus.views)
    slide_K = np.searchsorted(first_of_slide, tile_K, side="right") - 1
    parts = [
        corpus.tokens[slide].cls(corpus.kept(int(slide))[tile_K[at] - first_of_slide[slide]])[
            np.arange(len(at)), view_K[at]
        ]
        for slide in np.unique(slide_K)
        for at in [np.flatnonzero(slide_K == slide)]
    ]
    return np.concatenate(parts)
