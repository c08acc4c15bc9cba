"""Adapter `bilinear`: the coarsest map, projected and resized. The least that can be done, a control for `attention`.

    patch = resize(W map + b)

Projecting before resizing gives the same answer as after (bilinear weights sum to 1) at a quarter of the cost where a
7 x 7 map meets a 14 x 14 grid.

Shapes: N samples, T teacher positions, C channels of a stage, D teacher width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pipeline.student.adapters.adapter import Adapter, Regrid, bilinear, tokens


class BilinearAdapter(Adapter):
    """1 x 1 convolution of the last stage's map to D, then bilinear to the teacher's grid."""

    def __init__(
        self, channels: Sequence[int], grids: Sequence[Sequence[int]], grid: Sequence[int], width: int
    ) -> None:
        super().__init__()
        self.leave = nn.Linear(channels[-1], width)
        self.regrid = Regrid(bilinear, grids[-1], grid)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        patch_NTD: Tensor = self.regrid(self.leave(tokens(maps[-1])))
        return patch_NTD

    @property
    def last(self) -> nn.Linear:
        return self.leave
