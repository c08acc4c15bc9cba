"""`cls_kind: contrastive`: which of many tiles an embedding is of.

    loss = mean over N of -log( s(e_n, c_n) / (s(e_n, c_n) + sum over k of s(e_n, b_k)) ),  s(x, y) = exp(cos(x, y) / t)

e_n the student's answer, c_n the teacher's to the same tile, b_k those to other tiles, t a temperature. Source: InfoNCE
(van den Oord et al. 2018) between a student and its teacher: CRD (Tian et al., ICLR 2020), whose negatives come from a
memory of the data set, and CLIP-KD (Yang et al., CVPR 2024), whose come from the batch. Here they are the fixed bank of
`relation`: no tile's loss depends on its batch, so processes that share a batch train what one does. Of the two
directions of CLIP's it has the one from the student, which is what learns.

It sets the direction of an embedding and leaves its length free.

Shapes: N tiles, K tiles of the bank, D teacher width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SAME = 1 - 1e-4
"""Cosine from which a tile of the bank counts as the tile itself, and is no negative."""


def contrastive_loss(embedding_ND: Tensor, cls_ND: Tensor, bank_KD: Tensor, temperature: float) -> Tensor:
    """The loss above, a scalar in fp32 (fp64 stays fp64), >= 0.

    `embedding_ND` the student's answer, any float; `cls_ND` the targets and `bank_KD` the bank, standardised alike, the
    bank's rows of length 1.
    """
    wide = torch.promote_types(embedding_ND.dtype, torch.float32)
    student_ND, teacher_ND = (F.normalize(x_ND.to(wide), dim=-1) for x_ND in (embedding_ND, cls_ND))
    bank_KD = bank_KD.to(wide)
    own_N1 = (student_ND * teacher_ND).sum(-1, keepdim=True)
    other_NK = (student_ND @ bank_KD.T).masked_fill(teacher_ND @ bank_KD.T >= SAME, -torch.inf)
    right_N = torch.zeros(len(own_N1), dtype=torch.long, device=own_N1.device)
    return F.cross_entropy(torch.cat([own_N1, other_NK], 1) / temperature, right_N)
