"""A batch of tiles, each under its own view, on any device: the same integers as tile.py, bit for bit.

Held equal to tile.py by a test on the CPU; on a GPU not run.

Shapes: N tiles, H = W = side, L = side of the axis that is resampled, X = of the other, O = out_px, K taps (in the
stain's map: colours before it), C = 3 colours, P fields.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.base.types import Array
from pipeline.views.crop import PRECISION_BITS, box_px, taps
from pipeline.views.dihedral import split_element
from pipeline.views.fields import BOX
from pipeline.views.stain import DARKEST, DENSITY, LEVEL, MIX_BITS, mixes
from pipeline.views.tile import changes_stain, view_of_tile


def apply_views(image_NHWC: Tensor, fields_NP: NDArray[np.float32], out_px: int) -> Tensor:
    """Square tiles (N, H, W, 3) uint8, each under the view of its fields, as (N, out_px, out_px, 3) on their device.

    On the CPU each tile goes its own way through tile.py, where Pillow's crop is the fastest.
    """
    n, height, width, _ = image_NHWC.shape
    if height != width or len(fields_NP) != n or image_NHWC.dtype != torch.uint8:
        raise ValueError(f"{tuple(image_NHWC.shape)} {image_NHWC.dtype} and {len(fields_NP)} views: not square tiles")
    if image_NHWC.device.type == "cpu" and not _is_dihedral(fields_NP, width, out_px):
        images = image_NHWC.numpy()
        tiles = [
            view_of_tile(image_HWC, fields_P, out_px) for image_HWC, fields_P in zip(images, fields_NP, strict=True)
        ]
        return torch.from_numpy(np.stack(tiles))
    return apply_on_device(image_NHWC, fields_NP, out_px)


def apply_on_device(image_NHWC: Tensor, fields_NP: NDArray[np.float32], out_px: int) -> Tensor:
    """The whole batch in tensor operations; what is the same for all tiles is left out where it changes nothing."""
    if not _is_whole(fields_NP, image_NHWC.shape[1], out_px):
        image_NHWC = _cropped(image_NHWC, fields_NP, out_px)
    if changes_stain(fields_NP):
        image_NHWC = _jittered(image_NHWC, fields_NP)
    return _turned(image_NHWC, fields_NP[:, 0].astype(int))


def _is_whole(fields_NP: NDArray[np.float32], side_px: int, out_px: int) -> bool:
    return side_px == out_px and bool((fields_NP[:, BOX] == (0, 0, 1)).all())


def _is_dihedral(fields_NP: NDArray[np.float32], side_px: int, out_px: int) -> bool:
    return _is_whole(fields_NP, side_px, out_px) and not changes_stain(fields_NP)


def _cropped(image_NHWC: Tensor, fields_NP: NDArray[np.float32], out_px: int) -> Tensor:
    """Pillow's resize: along x, rounded to bytes, then along y."""
    left_N, top_N, right_N, bottom_N = np.array([box_px(fields_P, image_NHWC.shape[1]) for fields_P in fields_NP]).T
    across_NOHC = _resampled(image_NHWC.transpose(1, 2), left_N, right_N, out_px)
    return _resampled(across_NOHC.transpose(1, 2), top_N, bottom_N, out_px)


def _resampled(image_NLXC: Tensor, start_N: NDArray[np.float64], stop_N: NDArray[np.float64], out_px: int) -> Tensor:
    """start:stop of each tile's second axis as out_px bytes, (N, O, X, C) uint8."""
    at_NOK, weight_NOK = (_to(image_NLXC, values) for values in taps(start_N, stop_N, image_NLXC.shape[1], out_px))
    n, _, across, colours = image_NLXC.shape
    tile_N1 = torch.arange(n, device=image_NLXC.device)[:, None]
    half = 1 << PRECISION_BITS - 1
    sum_NOXC = torch.full((n, out_px, across, colours), half, dtype=torch.int32, device=image_NLXC.device)
    for k in range(at_NOK.shape[2]):
        sum_NOXC += image_NLXC[tile_N1, at_NOK[..., k]].int() * weight_NOK[..., k, None, None]
    return (sum_NOXC >> PRECISION_BITS).clamp_(0, 255).to(torch.uint8)


def _jittered(image_NHWC: Tensor, fields_NP: NDArray[np.float32]) -> Tensor:
    """stain.py's map, its colours apart."""
    matrix_NKC, shift_NC = (_to(image_NHWC, values) for values in mixes(fields_NP))
    table_V, level_V = _to(image_NHWC, DENSITY), _to(image_NHWC, LEVEL)
    density_NHWK = torch.index_select(table_V, 0, image_NHWC.reshape(-1).int()).view(image_NHWC.shape)
    colours = []
    for c in range(3):
        mixed_NHW = shift_NC[:, c, None, None] + density_NHWK[..., 0] * matrix_NKC[:, 0, c, None, None]
        for k in (1, 2):
            mixed_NHW += density_NHWK[..., k] * matrix_NKC[:, k, c, None, None]
        mixed_NHW = (mixed_NHW >> MIX_BITS).clamp_(0, DARKEST)
        colours.append(torch.index_select(level_V, 0, mixed_NHW.view(-1)).view(mixed_NHW.shape))
    return torch.stack(colours, -1)


def _turned(image_NHWC: Tensor, element_N: NDArray[np.int_]) -> Tensor:
    """Each tile under its element, those of one element together."""
    if (element_N == element_N[0]).all():
        return _turn(image_NHWC, int(element_N[0]))
    out_NHWC = torch.empty_like(image_NHWC, memory_format=torch.contiguous_format)
    for element in np.unique(element_N):
        at_M = _to(image_NHWC, np.flatnonzero(element_N == element))
        out_NHWC[at_M] = _turn(image_NHWC[at_M], int(element))
    return out_NHWC


def _turn(image_NHWC: Tensor, element: int) -> Tensor:
    mirror, turns = split_element(element)
    mirrored = image_NHWC.flip(2) if mirror else image_NHWC
    return torch.rot90(mirrored, turns, dims=(1, 2)).contiguous()


def _to(image_NHWC: Tensor, values: Array) -> Tensor:
    """On the images' device; from page-locked memory, since a copy of any other would wait for the device."""
    tensor, device = torch.from_numpy(values), image_NHWC.device
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
