"""The rotation in plain PyTorch: signs, then a Hadamard matrix, in blocks of channels.

    rotated = block * signs @ H / sqrt(B)        block = H @ rotated * signs / sqrt(B)        per block of B channels

H is Sylvester's Hadamard matrix (`scipy.linalg.hadamard`): entries of 1 and -1, symmetric, H @ H = B. A token whose
absmax belongs to a few channels (a CNN's ReLU6 maps) leaves int8 a handful of levels for the others; rotated, its
entries are near Gaussian. Without the signs every block's mean would pile up in its first entry, since the tokens of
such maps lie mostly on one side of their mean; the Rudin-Shapiro signs are the ones whose own Hadamard transform is
flat (exactly where B is a power of four, as 64 is), so the mean too is spread evenly.

Source: QuaRot (Ashkboos et al. 2024) rotates activations so; Rudin 1959 for the signs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.hadamard.blocks import matrix_rows, sign_list

_SIGNS: dict[tuple[int, torch.device], Tensor] = {}
_MATRICES: dict[tuple[int, torch.device], Tensor] = {}
# Dictionaries, since torch.compile looks through functools.cache and would build the tables in every call.


def signs(block: int, device: torch.device | str = "cpu") -> Tensor:
    """(B,) float32 of 1 and -1: the Rudin-Shapiro sequence, -1 where i has an odd number of adjacent 11 in binary."""
    key = block, torch.device(device)
    if key not in _SIGNS:
        _SIGNS[key] = torch.tensor(sign_list(block), dtype=torch.float32, device=device)
    return _SIGNS[key]


def matrix(block: int, device: torch.device | str = "cpu") -> Tensor:
    """H, (B, B) float32 of 1 and -1, not normalised. Raises `ValueError` where `block` is no power of two."""
    key = block, torch.device(device)
    if key not in _MATRICES:
        _MATRICES[key] = torch.tensor(matrix_rows(block), dtype=torch.float32, device=device)
    return _MATRICES[key]


def signs_over(width: int, block: int, device: torch.device | str = "cpu") -> Tensor:
    """(D,) the signs of every block, end to end. Raises `ValueError` where `block` does not divide D."""
    if width % block:
        raise ValueError(f"blocks of {block} do not fill {width} channels")
    return signs(block, device).repeat(width // block)


def transform(x_ND: Tensor, block: int) -> Tensor:
    """x @ H in each block of channels, neither signed nor normalised; float32, a copy unless the block is 1."""
    if block == 1:
        return x_ND
    blocks_MB = x_ND.reshape(-1, block)
    return (blocks_MB @ matrix(block, x_ND.device)).view(x_ND.shape)
