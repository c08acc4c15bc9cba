"""Plain PyTorch: z = H @ q * (scale * signs / sqrt(B)) in each block of B channels.

Undoing the rotation on the ints, before they are scaled, is exact: at most 64 sums of at most 127 stay far below
2^24, where float32 counts by ones. So the order of the sums does not matter, and every device gives the same bits.
"""

from __future__ import annotations

import math

from torch import Tensor

from kernels.hadamard.reference import signs_over, transform


def dequantise(q_NTD: Tensor, scale_NT: Tensor, rotation_block: int = 1) -> Tensor:
    """The standardised tokens z = (x - mu) / sigma, float32, any leading dimensions; a block of 1 is not rotated."""
    z_NTD = transform(q_NTD.float(), rotation_block)
    z_NTD = z_NTD.mul_((scale_NT.float() * (1.0 / math.sqrt(rotation_block))).unsqueeze(-1))
    return z_NTD if rotation_block == 1 else z_NTD.mul_(signs_over(q_NTD.shape[-1], rotation_block, z_NTD.device))
