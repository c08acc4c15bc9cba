"""The dense distillation loss on stored tokens: dequantise, cosine and smooth-L1, with its gradient, in one pass.

On a GPU with Triton the kernel runs, elsewhere the reference.
"""

from __future__ import annotations

from torch import Tensor

from kernels.available import has_kernel
from kernels.dense_loss import reference

__all__ = ["dense_loss", "token_norm"]


def dense_loss(
    prediction_NTD: Tensor,
    stored_NTD: Tensor,
    scale_NT: Tensor | None = None,
    weight_NT: Tensor | None = None,
    rotation_block: int = 1,
) -> Tensor:
    """Weighted sum of the distances of predictions to stored tokens, a scalar in fp32; see `reference.dense_loss`.

    On a GPU backward may run once, and there is no second derivative.
    """
    if has_kernel(prediction_NTD):
        from kernels.dense_loss import kernel

        return kernel.dense_loss(prediction_NTD, stored_NTD, scale_NT, weight_NT, rotation_block)
    return reference.dense_loss(prediction_NTD, stored_NTD, scale_NT, weight_NT, rotation_block)


def token_norm(stored_NTD: Tensor, scale_NT: Tensor | None = None) -> Tensor:
    """Length of each standardised token, (N, T) fp32; see `reference.token_norm`."""
    if has_kernel(stored_NTD):
        from kernels.dense_loss import kernel

        return kernel.token_norm(stored_NTD, scale_NT)
    return reference.token_norm(stored_NTD, scale_NT)
