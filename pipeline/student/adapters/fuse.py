"""Adapter `fuse`: the stages' maps, each projected and resized to the teacher's grid, added. A control for `attention`.

    patch = W norm(gelu(sum over s of resize(W_s map_s + b_s))) + b

A feature pyramid of one level (Lin et al., CVPR 2017): stride 16 brings the place, stride 32 the context; what a
teacher position may look at is fixed by the resizing, where `attention` learns it. Of the same inner width as
`attention`.

Shapes: N samples, T teacher positions, C channels of a stage, d inner width, D teacher width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.student.adapters.adapter import Adapter, Regrid, bilinear, tokens


class FuseAdapter(Adapter):
    """1 x 1 convolutions of all stages to `dim`, bilinear to the teacher's grid, their sum projected to D."""

    def __init__(
        self,
        channels: Sequence[int],
        grids: Sequence[Sequence[int]],
        grid: Sequence[int],
        width: int,
        dim: int = 128,
    ) -> None:
        super().__init__()
        self.enter = nn.ModuleList(nn.Linear(c, dim) for c in channels)
        self.regrid = nn.ModuleList(Regrid(bilinear, own, grid) for own in grids)
        self.norm = nn.LayerNorm(dim)
        self.leave = nn.Linear(dim, width)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        parts_NTd = [
            regrid(enter(tokens(map_NCHW)))
            for map_NCHW, enter, regrid in zip(maps, self.enter, self.regrid, strict=True)
        ]
        sum_NTd = torch.stack(parts_NTd).sum(0)
        patch_NTD: Tensor = self.leave(self.norm(F.gelu(sum_NTd)))
        return patch_NTD

    @property
    def last(self) -> nn.Linear:
        return self.leave
