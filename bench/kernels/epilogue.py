"""The epilogue's kernel against its reference, eager and compiled; the gate first, so that no wrong kernel is timed.

A kernel that does not beat `torch.compile` of its own reference on a GPU does not stay. No GPU has been at hand yet:
what is known is that the answers agree, in Triton's interpreter.

Run: python -m bench.kernels.epilogue; the last line is one JSON object.
"""

from __future__ import annotations

import torch

from bench.kernels import agreement, timing
from kernels.epilogue import reference
from kernels.hadamard.blocks import block_of

EPS = 1e-6
CASES = (
    ("ViT-L/16, 256 tiles, bf16", 256, 1, 196, 1024, torch.bfloat16),
    ("ViT-H/14, 5 prefix, 128 tiles, bf16", 128, 5, 256, 1280, torch.bfloat16),
    ("ViT-S/16, 256 tiles, bf16", 256, 1, 196, 384, torch.bfloat16),
    ("ViT-L/16, 64 tiles, fp32", 64, 1, 196, 1024, torch.float32),
)
"""Name, tiles, prefix tokens, patch tokens, width, type of the hidden state."""


def main() -> None:
    """Gate, time, print."""
    device = timing.prepare()
    from kernels.epilogue import kernel

    rows = []
    for name, n, n_prefix, tokens, width, dtype in CASES:
        # The interpreter takes a hundredth of a second a token.
        n, tokens = (n, tokens) if device == "cuda" else (1, 9)
        raw_NLD, (weight_D, bias_D, mu_D, sigma_D) = agreement.hidden_state(n, n_prefix + tokens, width, dtype, device)
        folded = reference.fold(mu_D, sigma_D, block_of(width), reference.Norm(weight_D, bias_D, EPS), n_prefix)
        agreement.epilogue_agrees(kernel.epilogue, raw_NLD, folded)
        rows.append(timing.row(name, kernel.epilogue, reference.epilogue, (raw_NLD, folded), device))
    timing.report("epilogue", device, rows)


if __name__ == "__main__":
    main()
