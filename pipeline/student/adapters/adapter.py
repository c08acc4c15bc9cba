"""What every adapter is: a module from the student's stage maps to the teacher's token grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int]
Resample = Callable[[Tensor, Grid], Tensor]
"""(N, C, h, w) to (N, C, *grid), by weights that are a row's times a column's."""


class Adapter(nn.Module, ABC):
    """Maps (N, C_s, h_s, w_s), one a stage, to patch_NTD on the teacher's grid.

    Made with `channels` and `grids` of the stages in the order the maps come, `grid` = (h, w) of the teacher with
    T = h * w, and `width` D. Whatever follows `last` must let an affine map through, as resizing with weights that sum
    to 1 does.
    """

    @abstractmethod
    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Stage maps (N, C_s, h_s, w_s), any float, to patch_NTD."""

    @property
    @abstractmethod
    def last(self) -> nn.Linear:
        """The linear layer that ends in the teacher's space."""


def tokens(map_NCHW: Tensor) -> Tensor:
    """A map as (N, h * w, C), row-major; no copy where the map is channels_last."""
    return map_NCHW.flatten(2).transpose(1, 2)


def bilinear(map_NCHW: Tensor, grid: Grid) -> Tensor:
    """A map at the cell centres of another grid; low-passed where that is coarser."""
    coarser = grid[0] < map_NCHW.shape[2] or grid[1] < map_NCHW.shape[3]
    return F.interpolate(map_NCHW, size=grid, mode="bilinear", align_corners=False, antialias=coarser)


def average(map_NCHW: Tensor, grid: Grid) -> Tensor:
    """A map averaged over each cell of another grid; cells repeat where that is finer."""
    return F.adaptive_avg_pool2d(map_NCHW, grid)


class Regrid(nn.Module):
    """Tokens (N, h * w, C) of the student's grid `own` to tokens of the teacher's, `grid`, by `resample`.

    ONNX has no operator for averaging over cells that differ, nor for a low-pass. What is exported is the product with
    the weights of each row and column, which are what `resample` makes of the identity.
    """

    def __init__(self, resample: Resample, own: Sequence[int], grid: Sequence[int]) -> None:
        super().__init__()
        self.resample, self.own, self.grid = resample, (own[0], own[1]), (grid[0], grid[1])
        self.rows_Hh: Tensor
        self.columns_wW: Tensor
        self.register_buffer("rows_Hh", _weights(resample, own[0], grid[0]), persistent=False)
        self.register_buffer("columns_wW", _weights(resample, own[1], grid[1]).T, persistent=False)

    def forward(self, tokens_NLC: Tensor) -> Tensor:
        if self.own == self.grid:
            return tokens_NLC
        map_NCHW = tokens_NLC.transpose(1, 2).reshape(tokens_NLC.shape[0], -1, *self.own)
        if torch.onnx.is_in_onnx_export():
            return tokens(self.rows_Hh @ map_NCHW @ self.columns_wW)
        return tokens(self.resample(map_NCHW, self.grid))


def _weights(resample: Resample, own: int, to: int) -> Tensor:
    """(to, own): by what each of `own` rows counts in each of `to`."""
    # Two pixels wide: torch 2.14 low-passes a map of one pixel's width by reading the same pixel again and again.
    unit_1hhW = torch.eye(own)[None, :, :, None].repeat(1, 1, 1, 2)
    return resample(unit_1hhW, (to, 2))[0, :, :, 0].T
