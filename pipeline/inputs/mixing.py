"""Two tiles shown as one, and asked for both answers: mixup and CutMix on cached targets.

    mixup    image = w a + (1 - w) b,  target = w z(a) + (1 - w) z(b),  z standardised: the CLS and every patch token
    cutmix   a box of b's cells pasted into a; each patch token is its own cell's tile's, the CLS is mixed by area

with w ~ Beta(alpha, alpha) for mixup; for CutMix 1 - w is the share of the box, whose sides are then rounded to the
teacher's cells, and w is what the box leaves. Sources: mixup, Zhang et al. (ICLR 2018), alpha there 0.1 to 0.4 for
labels and 1 for distillation in Beyer et al. ("Knowledge distillation: a good teacher is patient and consistent", CVPR
2022), who ask the teacher for the mixed image; CutMix, Yun et al. (ICCV 2019), alpha 1. Here no teacher is asked: that
its answer to a mixed tile lies between its answers is an assumption, which keeps a student from learning single tiles
by heart, at no pass of the teacher. A token of a box next to its border has seen other tissue than the student is shown
there.

Tile i is mixed with tile i xor 1 of the batch, whose order is already random; the last of an odd share stays as it is.
So a pair lies within one process's share where that is even, and N processes train what one does. A cached target is
the teacher's answer to the tile under the view that is shown, cell by cell, so the patch tokens of two tiles lie on one
another whatever views they have. A corpus has one grid a teacher: CutMix's boxes are of the first one's cells, and a
token of another teacher counts to the tile in which the middle of its cell lies.

Shapes: N tiles of this process, H = W input side, T = h * w teacher positions, D teacher width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.dequantise import dequantise
from pipeline.corpus.loader import Batch, Targets
from pipeline.inputs.draws import MIX, Draws
from pipeline.params.student import MixParams


def pairs_stay_together(own_size: int) -> bool:
    """Whether no pair of tiles is parted where each process has `own_size` tiles of a batch."""
    return own_size % 2 == 0


@dataclass(frozen=True)
class Mixing:
    """Mixes the batches of a training, on their device.

    `grids` and `rotation_blocks` are those of the cached tokens, one a teacher.
    """

    params: MixParams
    draws: Draws
    grids: tuple[tuple[int, int], ...]
    rotation_blocks: tuple[int, ...] = (1,)

    @torch.no_grad()
    def __call__(self, step: int, batch: Batch) -> Batch:
        """The batch of that step, mixed; images and targets that are blended come out in torch's default dtype."""
        generator = self.draws.generator(step, MIX)
        alpha, size = self.params.alpha, self.draws.batch_size
        weight_N = self.draws.own(generator.beta(alpha, alpha, size))
        drawn_NK = self.draws.unit(generator, 3)
        weight_N = np.where(drawn_NK[:, 0] < self.params.share, weight_N, 1.0)
        if self.params.kind == "mixup":
            return self._mixup(batch, weight_N)
        return self._cutmix(batch, boxes(weight_N, drawn_NK[:, 1:], self.grids[0]))

    def _mixup(self, batch: Batch, weight_N: NDArray[np.float64]) -> Batch:
        device = batch.image_NHWC.device
        partner_N = partners(len(weight_N), device)
        weight = torch.from_numpy(weight_N).to(device, torch.get_default_dtype())
        image_NHWC = _blended(batch.image_NHWC, partner_N, weight)

        def mixed(one: Targets, block: int) -> Targets:
            patch_NTD = _standardised(one, block)
            patch_NTD = None if patch_NTD is None else _blended(patch_NTD, partner_N, weight)
            return Targets(_blended(one.cls_ND, partner_N, weight), patch_NTD, None)

        return _with(batch, image_NHWC, [mixed(*each) for each in zip(batch.each, self.rotation_blocks, strict=True)])

    def _cutmix(self, batch: Batch, pasted_NT: NDArray[np.bool_]) -> Batch:
        device, side_px = batch.image_NHWC.device, batch.image_NHWC.shape[1]
        partner_N = partners(len(pasted_NT), device)
        (h, w), cell_NT = self.grids[0], torch.from_numpy(pasted_NT).to(device)
        cell_Nhw = cell_NT.view(-1, h, w)
        # The cell in which each pixel's row and column lie; sides need not divide.
        row_H, column_W = (torch.arange(side_px, device=device) * cells // side_px for cells in (h, w))
        pixel_NHW1 = cell_Nhw[:, row_H][:, :, column_W].unsqueeze(-1)
        left = torch.from_numpy(1 - pasted_NT.mean(1)).to(device, torch.get_default_dtype())

        def mixed(one: Targets, grid: tuple[int, int]) -> Targets:
            pasted = cell_NT
            if grid != (h, w):
                # Of another teacher's cells those whose middle lies in the box.
                row, column = ((2 * torch.arange(own, device=device) + 1) * cells // (2 * own)
                               for own, cells in zip(grid, (h, w), strict=True))  # fmt: skip
                pasted = cell_Nhw[:, row][:, :, column].flatten(1)
            patch, scale = one.patch_NTD, one.scale_NT
            return Targets(
                _blended(one.cls_ND, partner_N, left),
                None if patch is None else torch.where(pasted.unsqueeze(-1), patch[partner_N], patch),
                None if scale is None else torch.where(pasted, scale[partner_N], scale),
            )

        image_NHWC = torch.where(pixel_NHW1, batch.image_NHWC[partner_N], batch.image_NHWC)
        return _with(batch, image_NHWC, [mixed(*each) for each in zip(batch.each, self.grids, strict=True)])


def _with(batch: Batch, image_NHWC: Tensor, answers: Sequence[Targets]) -> Batch:
    """The batch with other images and answers."""
    first, *also = answers
    return replace(batch, image_NHWC=image_NHWC, also=tuple(also), **vars(first))


def _standardised(one: Targets, rotation_block: int) -> Tensor | None:
    """The patch tokens as floats: only those add up."""
    if one.patch_NTD is None or one.scale_NT is None:
        return one.patch_NTD
    return dequantise(one.patch_NTD, one.scale_NT, rotation_block)


def partners(n: int, device: torch.device) -> Tensor:
    """With which tile of n each is mixed, (n,) int64: its neighbour; the last of an odd number with itself."""
    return torch.clamp(torch.arange(n, device=device) ^ 1, max=n - 1)


def boxes(weight_N: NDArray[np.float64], place_N2: NDArray[np.float64], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Which cells of each tile are its partner's, (N, T): a box of 1 - weight of the area, as near as cells allow.

    `place_N2` in [0, 1) says where it lies, down and across, always whole within the grid.
    """
    inside = []
    for cells, place_N in zip(grid, place_N2.T, strict=True):
        side_N = np.round(cells * np.sqrt(1 - weight_N)).astype(int)
        first_N = np.floor(place_N * (cells - side_N + 1)).astype(int)
        at = np.arange(cells)
        inside.append((at >= first_N[:, None]) & (at < (first_N + side_N)[:, None]))
    down_Nh, across_Nw = inside
    cells_NT: NDArray[np.bool_] = (down_Nh[:, :, None] & across_Nw[:, None, :]).reshape(len(weight_N), -1)
    return cells_NT


def _blended(x: Tensor, partner_N: Tensor, weight_N: Tensor) -> Tensor:
    """w x_n + (1 - w) x_partner, in the weight's dtype; a weight of 1 leaves a tile as it is."""
    own = x.to(weight_N.dtype)
    return torch.lerp(own[partner_N], own, weight_N.view(-1, *[1] * (x.ndim - 1)))
