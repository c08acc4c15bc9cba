"""The loss of a step: each objective's value on a batch, and their weighted sum.

    loss = w_cls * cls(embedding, CLS*) + w_patch * patch(map, tokens*)            * standardised, fp32

Shapes: N tiles, T teacher positions, D teacher width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.quantise.reference import dequantise
from pipeline.params import ObjectiveParams
from pipeline.student.corpus import Corpus
from pipeline.student.loader import Batch
from pipeline.student.objectives import cls_loss, patch_loss
from pipeline.student.targets import Standardiser


class Terms:
    """The objectives with all that they need besides batch and answers: weights, the targets' statistics.

    Holds no state that a step changes, so a checkpoint needs nothing of it. Raises nothing; a value that is not finite
    is the loop's to refuse.
    """

    def __init__(self, params: ObjectiveParams, corpus: Corpus, cls: Standardiser, device: torch.device) -> None:
        self.weights = {"cls": params.cls, "patch": params.patch}
        self.cls = cls.to(device)

    def __call__(self, batch: Batch, embedding_ND: Tensor, map_NTD: Tensor | None) -> dict[str, Tensor]:
        """Objective -> its unweighted value on this process's share of the batch, a scalar in fp32.

        `batch` lies on the device of the answers. Without a map (no adapter) there is no `patch`.
        """
        terms = {"cls": cls_loss(embedding_ND, self.cls.forward(batch.cls_ND))}
        if map_NTD is not None and batch.patch_NTD is not None:
            scale_NT = batch.scale_NT
            target_NTD = batch.patch_NTD.float() if scale_NT is None else dequantise(batch.patch_NTD, scale_NT)
            terms["patch"] = patch_loss(map_NTD, target_NTD)
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum that is minimised."""
        return torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
