"""From a teacher's last hidden state to what is stored: CLS, and int8 patch tokens with one scale each.

`epilogue` is the one pass; `quantise` the part of it for teachers whose CLS needs more than the last LayerNorm; both
take what `fold` makes of norm, standardising and rotation, once a teacher. `standardise` is what is kept where tokens
stay float16. On a GPU with Triton the kernel runs, elsewhere the reference.
"""

from __future__ import annotations

from torch import Tensor

from kernels.available import has_kernel
from kernels.epilogue import reference
from kernels.epilogue.reference import Folded, Norm, fold, standardise

__all__ = ["Folded", "Norm", "epilogue", "fold", "quantise", "standardise"]


def epilogue(raw_NLD: Tensor, folded: Folded) -> tuple[Tensor, Tensor, Tensor]:
    """(cls_ND float32, q_NTD int8, scale_NT float16) of a hidden state (N, L = n_prefix + T, D), any float type.

    LayerNorm (where `folded` has one), token 0 as CLS, the other prefix tokens dropped, the rest
    standardised, rotated and quantised; see `reference.epilogue`. A token that is not finite has a scale of NaN.
    """
    if has_kernel(raw_NLD):
        from kernels.epilogue import kernel

        return kernel.epilogue(raw_NLD, folded)
    return reference.epilogue(raw_NLD, folded)


def quantise(patch_NTD: Tensor, folded: Folded) -> tuple[Tensor, Tensor]:
    """(q_NTD int8, scale_NT float16) of patch tokens in the teacher's own space; see `reference.quantise`."""
    if has_kernel(patch_NTD):
        from kernels.epilogue import kernel

        return kernel.quantise(patch_NTD, folded)
    return reference.quantise(patch_NTD, folded)
