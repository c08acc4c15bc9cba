"""What every adapter is: a module from the student's stage maps to the teacher's token grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


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


def resize(tokens_NLC: Tensor, grid: Sequence[int], to: Sequence[int]) -> Tensor:
    """Tokens of one grid bilinearly at another's cell centres, (N, h * w, C); low-passed where it is coarser."""
    if tuple(grid) == tuple(to):
        return tokens_NLC
    map_NCHW = tokens_NLC.transpose(1, 2).reshape(tokens_NLC.shape[0], -1, grid[0], grid[1])
    coarser = to[0] < grid[0] or to[1] < grid[1]
    return tokens(F.interpolate(map_NCHW, size=tuple(to), mode="bilinear", align_corners=False, antialias=coarser))
