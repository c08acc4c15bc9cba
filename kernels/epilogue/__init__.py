"""From a teacher's last hidden state to what is stored: CLS, and int8 patch tokens with one scale each.

`epilogue` is the one pass; `quantise` the part of it for teachers whose CLS needs more than the last LayerNorm; both
take what `folded` makes of norm, standardising and rotation, once a teacher. `standardise` is what is kept where tokens
stay float16. On a GPU with Triton the kernel runs, elsewhere the reference.
"""

from __future__ import annotations

from torch import Tensor

from kernels.available import has_kernel
from kernels.epilogue import reference
from kernels.epilogue.reference import folded, standardise

__all__ = ["epilogue", "folded", "quantise", "standardise"]


def epilogue(
    raw_NLD: Tensor,
    norm_weight_D: Tensor | None,
    norm_bias_D: Tensor | None,
    eps: float,
    n_prefix: int,
    gain_D: Tensor,
    offset_D: Tensor,
    rotation_block: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """(cls_ND float32, q_NTD int8, scale_NT float16) of a hidden state (N, L = n_prefix + T, D), any float type.

    LayerNorm (none where `norm_weight_D` is None), token 0 as CLS, the other prefix tokens dropped, the rest
    standardised, rotated and quantised; see `reference.epilogue`. A token that is not finite has a scale of NaN.
    """
    arguments = (raw_NLD, norm_weight_D, norm_bias_D, eps, n_prefix, gain_D, offset_D, rotation_block)
    if has_kernel(raw_NLD):
        from kernels.epilogue import kernel

        return kernel.epilogue(*arguments)
    return reference.epilogue(*arguments)


def quantise(patch_NTD: Tensor, gain_D: Tensor, offset_D: Tensor, rotation_block: int) -> tuple[Tensor, Tensor]:
    """(q_NTD int8, scale_NT float16) of patch tokens in the teacher's own space; see `reference.quantise`."""
    if has_kernel(patch_NTD):
        from kernels.epilogue import kernel

        return kernel.quantise(patch_NTD, gain_D, offset_D, rotation_block)
    return reference.quantise(patch_NTD, gain_D, offset_D, rotation_block)
