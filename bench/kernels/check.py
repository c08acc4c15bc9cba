"""Every Triton kernel against its reference, answers and gradients, on a GPU, else in Triton's interpreter; no times.

Run: python -m bench.kernels.check. The last line is one JSON object. Exits with 1 where a kernel differs
or does not run, after all of them had their turn.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator

import torch

from bench.kernels import agreement, timing
from bench.printing import finish, show
from kernels.epilogue import Norm, fold
from kernels.hadamard.blocks import block_of

EPS = 1e-6
WIDTHS = (1024, 1280, 35)
"""A ViT-L's, one that is no power of two, and one that nothing rotates."""
Case = tuple[str, Callable[[], None]]


def main() -> None:
    """Check and print."""
    device, told, failed = timing.prepare(), dict[str, str](), False
    for name, check in (*_epilogue(device), *_dequantise(device), *_dense_loss(device)):
        try:
            check()
            told[name] = "agrees"
        except Exception as error:
            # Whatever one kernel does, the others are checked.
            failed = True
            told[name] = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
    show(f"Kernels against their references on {timing.where(device)}", ("case", "found"), list(told.items()))
    finish({"device": timing.where(device), "agree": not failed, "cases": told})
    sys.exit(failed)


def _shape(device: str) -> tuple[int, int]:
    """(tiles, patch tokens); the interpreter takes a hundredth of a second a token."""
    return (8, 196) if device == "cuda" else (1, 5)


def _epilogue(device: str) -> Iterator[Case]:
    from kernels.epilogue import kernel

    n, tokens = _shape(device)
    for width in WIDTHS:
        for dtype, n_prefix in ((torch.float32, 1), (torch.bfloat16, 5)):
            raw_NLD, (weight_D, bias_D, mu_D, sigma_D) = agreement.hidden_state(
                n, n_prefix + tokens, width, dtype, device
            )
            block = block_of(width)
            for norm in ("norm", "no norm"):
                own = Norm(weight_D, bias_D, EPS) if norm == "norm" else None
                folded = fold(mu_D, sigma_D, block, own, n_prefix)
                check = functools.partial(agreement.epilogue_agrees, kernel.epilogue, raw_NLD, folded)
                yield f"epilogue, {width}, {dtype}, {norm}", check


def _dequantise(device: str) -> Iterator[Case]:
    from kernels.dequantise import kernel

    generator = torch.Generator().manual_seed(0)
    for width in WIDTHS:
        q_NTD = torch.randint(-127, 128, (*_shape(device), width), dtype=torch.int8, generator=generator).to(device)
        scale_NT = torch.rand(q_NTD.shape[:2], generator=generator).half().to(device)

        check = functools.partial(agreement.dequantise_agrees, kernel.dequantise, q_NTD, scale_NT, block_of(width))
        yield f"dequantise, {width}", check


def _dense_loss(device: str) -> Iterator[Case]:
    from kernels.dense_loss import kernel

    generator = torch.Generator().manual_seed(0)
    for width in WIDTHS:
        for dtype, weighted in ((torch.float32, False), (torch.bfloat16, True)):
            shape = (*_shape(device), width)
            prediction_NTD = (torch.randn(shape, generator=generator) * 2).to(device, dtype)
            stored_NTD = torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator).to(device)
            scale_NT = (torch.rand(shape[:2], generator=generator) * 0.02 + 0.01).half().to(device)
            weight_NT = torch.rand(shape[:2], generator=generator).to(device) if weighted else None

            loss = functools.partial(
                agreement.dense_loss_agrees, kernel.dense_loss, prediction_NTD, stored_NTD, scale_NT
            )
            yield f"dense loss and gradient, {width}, {dtype}", functools.partial(loss, weight_NT, block_of(width))
            norms = functools.partial(agreement.norms_agree, kernel.token_norm, stored_NTD, scale_NT)
            yield f"token norm, {width}, {dtype}", norms


if __name__ == "__main__":
    main()
