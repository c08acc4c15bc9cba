"""From a trunk's raw answer to what is stored of it: CLS in float16, patch tokens as the layout keeps them.

Whether they are numbers is computed beside them and looked at when they are back on the host: asking the device for it
would stop the stream.

Shapes: N tiles, V views, L = prefix tokens + T patch tokens, D channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.epilogue import Norm, epilogue, fold, quantise, standardise
from pipeline.teachers.statistics import Calibration
from pipeline.teachers.teacher import Teacher
from pipeline.tokens.item.writer import rotation_block

FP16_MAX = 65504.0


class Encoded(NamedTuple):
    """One view of a batch (N, …), or all of them (N, V, …)."""

    cls_ND: Tensor
    patch_NTD: Tensor | None
    scale_NT: Tensor | None
    finite_N: Tensor
    """Whether the tile's answer has no NaN, no inf and nothing beyond float16 in CLS."""


class Finish:
    """What is stored of raw answers on `device`; `frozen` is None for layout `none`."""

    def __init__(self, teacher: Teacher, layout: str, frozen: Calibration | None, device: torch.device) -> None:
        self._teacher, self._layout = teacher, layout
        self._frozen: tuple[Tensor, Tensor] | None = None
        self._in_one_pass = teacher.cls_is_token and not teacher.convolutional
        if frozen is not None:
            mu_D, sigma_D = torch.from_numpy(frozen.mu).to(device), torch.from_numpy(frozen.sigma).to(device)
            self._frozen = mu_D, sigma_D
            # Once, and not the half dozen small launches of it with every batch.
            block = rotation_block(layout, teacher.width)
            if self._in_one_pass:
                self._folded = fold(mu_D, sigma_D, block, _norm(teacher), teacher.n_prefix)
            else:
                self._folded = fold(mu_D, sigma_D, block)

    def __call__(self, raw: Tensor) -> Encoded:
        """What is stored of one view's raw answer, (N, L, D) or a CNN's map."""
        if self._frozen is not None and self._layout == "int8":
            cls_ND, patch_NTD, scale_NT = self._int8(raw)
            # A token with NaN or inf in it has a scale of NaN.
            return Encoded(cls_ND.half(), patch_NTD, scale_NT, _fits(cls_ND) & torch.isfinite(scale_NT).all(1))
        cls_ND, patch_NTD = self._teacher.finish(raw)
        finite_N = _fits(cls_ND) & torch.isfinite(patch_NTD).flatten(1).all(1)
        if self._frozen is None:
            return Encoded(cls_ND.half(), None, None, finite_N)
        z_NTD = standardise(patch_NTD, *self._frozen).clamp(-FP16_MAX, FP16_MAX)
        return Encoded(cls_ND.half(), z_NTD.half(), None, finite_N)

    def _int8(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """In one pass where CLS is the first token; where it is pooled, after the teacher's own finish."""
        if not self._in_one_pass:
            cls_ND, patch_NTD = self._teacher.finish(raw)
            return cls_ND, *quantise(patch_NTD, self._folded)
        return epilogue(raw, self._folded)


def all_views(views: list[Encoded]) -> Encoded:
    """The views stacked behind the tiles, (N, V, …); `finite_N` becomes (N, V)."""
    cls, patch, scale, finite = zip(*views, strict=True)
    stacked = [None if values[0] is None else torch.stack(values, 1) for values in (patch, scale)]
    return Encoded(torch.stack(cls, 1), stacked[0], stacked[1], torch.stack(finite, 1))


def on_host(encoded: Encoded) -> Encoded:
    """Copied into page-locked memory, without waiting for it; on the CPU it is there already."""
    cls, patch, scale, finite = (None if value is None else value.to("cpu", non_blocking=True) for value in encoded)
    assert cls is not None and finite is not None
    return Encoded(cls, patch, scale, finite)


def _norm(teacher: Teacher) -> Norm | None:
    last = teacher.final_norm
    return None if last is None else Norm(last.weight, last.bias, last.eps)


def _fits(cls_ND: Tensor) -> Tensor:
    return (cls_ND.abs() <= FP16_MAX).all(1)
