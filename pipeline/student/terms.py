"""The loss of one teacher at a step: each objective's value on a batch, and their weighted sum.

    loss = w_cls * cls(embedding, CLS*) + w_patch * patch(map, tokens*) + w_relation * relation(embedding, CLS*, bank*)
         + w_nested * mean over sizes of cls(answer of the size, CLS*)
    * standardised, fp32

Shapes: N tiles, K tiles of the bank, T teacher positions, D teacher width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.dense_loss import token_norm
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.loader import Targets
from pipeline.corpus.targets import Standardiser, draw_cls
from pipeline.params.student import ObjectiveParams
from pipeline.student.objectives import (
    NESTED,
    OBJECTIVES,
    cls_loss,
    contrastive_loss,
    patch_loss,
    relation_loss,
    unremarkable,
)
from pipeline.student.ranks.node import once

BY_BANK = {"kl": relation_loss, "contrastive": contrastive_loss}
"""Kinds of `cls` that compare an embedding with the bank, by relation's temperature. kl: KL of similarities, as SEED
(Fang et al., ICLR 2021) and LightlyTrain's first distillation have it as their only loss."""


class Terms:
    """The objectives with all that they need besides batch and answers: weights, the targets' statistics, the bank.

    The bank is drawn from the corpus once, by the seed, and no step changes it, so a checkpoint needs nothing of it. A
    value that is not finite is the loop's to refuse.
    """

    def __init__(
        self, params: ObjectiveParams, corpus: Corpus, cls: Standardiser, device: torch.device, seed: int = 0
    ) -> None:
        self.params = params
        self.weights: dict[str, float] = {name: getattr(params, name) for name in (*OBJECTIVES, NESTED)}
        self.cls = cls.to(device)
        self.rotation_block = corpus.rotation_block if corpus.dense else 1
        self.bank_KD: Tensor | None = None
        if params.relation > 0 or params.cls_kind in BY_BANK:
            # A copy: what processes of a node share cannot be written to, which torch has no tensors for.
            drawn_KD = torch.tensor(once(lambda: draw_cls(corpus, params.relation_queue, seed)), device=device)
            self.bank_KD = F.normalize(self.cls.forward(drawn_KD), dim=-1)

    def __call__(
        self, asked: Targets, embedding_ND: Tensor, map_NTD: Tensor | None, nested: Sequence[Tensor] = ()
    ) -> dict[str, Tensor]:
        """Objective -> its unweighted value on this process's share of the batch, a scalar in fp32.

        `asked`, what the teacher answered, lies on the device of the student's answers. `cls` is always there, `patch`
        with a map (an adapter), `relation` where it has a weight, `nested` where there are sizes.
        """
        cls_ND = self.cls.forward(asked.cls_ND)
        terms = {"cls": self._cls(embedding_ND, cls_ND)}
        if map_NTD is not None and asked.patch_NTD is not None:
            mask_NT = None
            if self.params.token_weight == "norm":
                mask_NT = unremarkable(token_norm(asked.patch_NTD, asked.scale_NT))
            # Tokens without a scale, as those that were mixed, are not rotated.
            block = 1 if asked.scale_NT is None else self.rotation_block
            terms["patch"] = patch_loss(map_NTD, asked.patch_NTD, asked.scale_NT, mask_NT, block)
        if self.bank_KD is not None and self.params.relation > 0:
            terms["relation"] = relation_loss(embedding_ND, cls_ND, self.bank_KD, self.params.relation_temperature)
        if nested:
            terms[NESTED] = torch.stack([self._cls(answer_ND, cls_ND) for answer_ND in nested]).mean()
        return terms

    def _cls(self, embedding_ND: Tensor, cls_ND: Tensor) -> Tensor:
        kind = self.params.cls_kind
        if kind == "kl" or kind == "contrastive":
            assert self.bank_KD is not None
            return BY_BANK[kind](embedding_ND, cls_ND, self.bank_KD, self.params.relation_temperature)
        return cls_loss(embedding_ND, cls_ND, kind)

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum that is minimised."""
        return torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
