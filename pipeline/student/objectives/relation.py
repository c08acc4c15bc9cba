"""Objective `relation`: which other tiles a tile is like, according to the student as to the teacher.

    q_n = softmax_k(cos(cls_n, bank_k) / temperature)          the teacher's row, over K cached tiles
    p_n = softmax_k(cos(embedding_n, bank_k) / temperature)    the student's
    loss = mean over N of KL(q_n || p_n) = mean over N of sum over k of q_nk (log q_nk - log p_nk)

Both are compared with the same teacher's vectors, since the student answers in the teacher's space. Source: SEED (Fang
et al., ICLR 2021), whose queue of the teacher's embeddings is here a fixed bank of cached ones: nothing is kept from
step to step. Unlike SEED's, both temperatures are one, so that a perfect answer costs nothing (CompRess, Koohpayegani
et al., NeurIPS 2020). A tile that is itself in the bank is part of its row, as SEED's is.

Cost: 3 N K D multiply-adds a step (two products forward, one backward): at K = 4096, D = 1024 13 MMAC a tile, beside
300 of EfficientViT-B0 at 224 px, forward and backward.

Shapes: N tiles, K tiles of the bank, D teacher width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def relation_loss(embedding_ND: Tensor, cls_ND: Tensor, bank_KD: Tensor, temperature: float) -> Tensor:
    """The loss above, a scalar in fp32 (fp64 stays fp64), >= 0.

    `embedding_ND` the student's answer, any float; `cls_ND` the targets and `bank_KD` the bank, standardised alike, the
    bank's rows of length 1.
    """
    wide = torch.promote_types(embedding_ND.dtype, torch.float32)
    student_NK, teacher_NK = (
        torch.log_softmax(F.normalize(x_ND.to(wide), dim=-1) @ bank_KD.to(wide).T / temperature, dim=-1)
        for x_ND in (embedding_ND, cls_ND)
    )
    return F.kl_div(student_NK, teacher_NK, reduction="batchmean", log_target=True)
