"""Adapter `pool`: the finest map, averaged over each teacher cell and projected. A control for `attention`.

    patch = W mean(map over the cell) + b

Where the map has the teacher's own grid (stride 16 and ViT-L/16) nothing is averaged: each teacher token is a linear
function of the student's cell at its place. Where it is coarser, cells repeat.

Shapes: N samples, T teacher positions, C channels of a stage, D teacher width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pipeline.student.adapters.adapter import Adapter, Regrid, average, tokens


class PoolAdapter(Adapter):
    """Adaptive average pooling of the first stage's map to the teacher's grid, then a 1 x 1 convolution to D."""

    def __init__(
        self, channels: Sequence[int], grids: Sequence[Sequence[int]], grid: Sequence[int], width: int
    ) -> None:
        super().__init__()
        self.regrid = Regrid(average, grids[0], grid)
        self.leave = nn.Linear(channels[0], width)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        patch_NTD: Tensor = self.leave(self.regrid(tokens(maps[0])))
        return patch_NTD

    @property
    def last(self) -> nn.Linear:
        return self.leave
