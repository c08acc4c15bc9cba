"""int8 patch tokens back to standardised floats; on a GPU with Triton the kernel runs, elsewhere the reference."""

from __future__ import annotations

from torch import Tensor

from kernels.available import has_kernel
from kernels.dequantise import reference

__all__ = ["dequantise"]


def dequantise(q_NTD: Tensor, scale_NT: Tensor, rotation_block: int = 1) -> Tensor:
    """The standardised tokens again, float32: unrotated and scaled; see `reference.dequantise`."""
    if has_kernel(q_NTD):
        from kernels.dequantise import kernel

        return kernel.dequantise(q_NTD, scale_NT, rotation_block)
    return reference.dequantise(q_NTD, scale_NT, rotation_block)
