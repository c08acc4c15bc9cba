"""What stain, lens, camera and file do to a tile, as floats on any device, each tile by numbers of its own.

Planes of one colour, since a plane is read in one stride, and a pixel's three colours are then sums of planes. Levels
run from 0 to 255 and may leave that range between two changes; `inputs.changes` cuts them once, at the end.

Shapes: C = 3 colours, N tiles, K taps of a filter or colours before a map, U = 64 coefficients of an 8 x 8 block.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

GREY = (0.299, 0.587, 0.114)
"""Share of red, green and blue in brightness (ITU-R BT.601, as JPEG has it)."""
_YCC = ((*GREY,), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
BLOCK = 8
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Steps of the coefficients at quality 50 (ITU-T T.81, table K.1)."""
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)
"""Table K.2."""


def stained(plane_CNHW: Tensor, matrix_NKC: Tensor, shift_NC: Tensor) -> Tensor:
    """Under a map of optical densities (`views.stain.density_map`) of levels from 0 to 255.

    A level counts as one more than it is, as there: with l = log(level + 1), which is log 256 less the density, the map
    of densities is l' = l M + log 256 (1 - sum of M) - shift, cut to what a level can be.
    """
    most = math.log(256)
    start_NC = most * (1 - matrix_NKC.sum(1)) - shift_NC
    return _mapped(torch.log1p(plane_CNHW), matrix_NKC, start_NC).clamp_(0, most).expm1_()


def blurred(plane_CNHW: Tensor, weight_NK: Tensor) -> Tensor:
    """By a symmetric filter along rows and columns, mirrored at the border; see `gaussian`."""
    reach, tiles = weight_NK.shape[1] // 2, len(weight_NK)
    plane_CNHW = F.pad(plane_CNHW, (reach,) * 4, mode="reflect")
    # A tile is a channel with a filter of its own: each axis reads and writes its planes once, whatever K is.
    for weight_N1KK in (weight_NK[:, None, :, None], weight_NK[:, None, None]):
        plane_CNHW = F.conv2d(plane_CNHW, weight_N1KK, groups=tiles)
    return plane_CNHW


def gaussian(sigma_N: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """Weights of a Gaussian of each sigma in pixels, none above `most`: (N, K), summing to 1; sigma 0 changes nothing.

    K reaches to three times `most`, which leaves out 0.3 % of the widest.
    """
    at_K = np.arange(-math.ceil(3 * most), math.ceil(3 * most) + 1)
    weight_NK = np.exp(-0.5 * np.square(at_K / np.maximum(sigma_N, 1e-3)[:, None]))
    normed: NDArray[np.float64] = weight_NK / weight_NK.sum(1, keepdims=True)
    return normed


def coloured(plane_CNHW: Tensor, brightness_N: Tensor, contrast_N: Tensor, saturation_N: Tensor) -> Tensor:
    """Brightness, then contrast about the tile's mean grey, then saturation: factors, 1 leaves a tile as it is.

    As torchvision's ColorJitter has them (in that order), without its cutting between the three.
    """
    grey_NHW = _grey(plane_CNHW) * brightness_N[:, None, None]
    mean_N = grey_NHW.mean((1, 2))
    gain_N = brightness_N * contrast_N
    # Contrast is affine, so the grey after it is that of the grey before.
    rest_NHW = (grey_NHW - mean_N[:, None, None]) * (contrast_N * (1 - saturation_N))[:, None, None]
    offset_N = mean_N - saturation_N * contrast_N * mean_N
    return plane_CNHW * (gain_N * saturation_N)[:, None, None] + (rest_NHW + offset_N[:, None, None])


def compressed(plane_CNHW: Tensor, step_CNU: Tensor) -> Tensor:
    """As JPEG keeps it, colour at full resolution: the coefficients of each 8 x 8 block rounded to multiples of a step.

    Brightness and differences of colour are whole numbers, as there; the answer's levels are not rounded. Sides that
    are no multiple of 8 are padded by their last pixels.
    """
    c, n, height, width = plane_CNHW.shape
    down, right = -height % BLOCK, -width % BLOCK
    padded = F.pad(plane_CNHW, (0, right, 0, down), mode="replicate") if down or right else plane_CNHW
    ycc, transform_UU = padded.new_tensor(_YCC), _transform().to(padded)
    ycc_CNHW = _mapped(padded, ycc.T.expand(n, 3, 3), padded.new_tensor([-128.0, 0, 0]).expand(n, 3)).round_()
    blocks = ycc_CNHW.view(c, n, (height + down) // BLOCK, BLOCK, (width + right) // BLOCK, BLOCK).transpose(3, 4)
    # Steps are folded into the transform, so that what is rounded needs no pass of its own to be divided.
    to_CNUU, back_CNUU = transform_UU / step_CNU.unsqueeze(3), transform_UU * step_CNU.unsqueeze(3)
    level = (blocks.reshape(c, n, -1, BLOCK * BLOCK) @ to_CNUU.transpose(2, 3)).round_()
    back = (level @ back_CNUU).view(blocks.shape).transpose(3, 4).reshape(padded.shape)
    inverse = torch.linalg.inv(ycc.double()).to(padded)
    rgb_CNHW = _mapped(back, inverse.T.expand(n, 3, 3), padded.new_full((n, 3), 128.0))
    return rgb_CNHW[..., :height, :width]


def jpeg_steps(quality_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Steps of brightness and the two colour differences at each quality, 1 to 100: (3, N, 64).

    Scaled from the standard's tables as the Independent JPEG Group's library does (jcparam.c).
    """
    percent_N = np.where(quality_N < 50, np.floor(5000 / quality_N), 200 - 2 * quality_N)
    tables = np.array([LUMINANCE, CHROMINANCE, CHROMINANCE], np.float64).reshape(3, 1, -1)
    steps: NDArray[np.float64] = np.clip(np.floor((tables * percent_N[:, None] + 50) / 100), 1, 255)
    return steps


def _grey(plane_CNHW: Tensor) -> Tensor:
    red, green, blue = plane_CNHW
    grey_NHW: Tensor = GREY[0] * red + GREY[1] * green + GREY[2] * blue
    return grey_NHW


def _mapped(plane_KNHW: Tensor, matrix_NKC: Tensor, shift_NC: Tensor) -> Tensor:
    """Sums of planes: an affine map of each pixel's three values."""
    out_CNHW = torch.empty_like(plane_KNHW)
    # One product a tile, whose planes lie N apart: they are read and written once.
    flat_NKP, out_NCP = (each.flatten(2).transpose(0, 1) for each in (plane_KNHW, out_CNHW))
    torch.baddbmm(shift_NC[..., None], matrix_NKC.transpose(1, 2), flat_NKP, out=out_NCP)
    return out_CNHW


def _transform() -> Tensor:
    """The two-dimensional DCT of an 8 x 8 block as one matrix (64, 64), orthonormal, float64."""
    k, x = np.arange(BLOCK)[:, None], np.arange(BLOCK)
    one_UX = np.sqrt(2 / BLOCK) * np.cos((2 * x + 1) * k * np.pi / (2 * BLOCK))
    one_UX[0] /= np.sqrt(2)
    return torch.from_numpy(np.kron(one_UX, one_UX))
