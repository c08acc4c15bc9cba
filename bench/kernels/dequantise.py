"""Dequantise's kernel against its reference, eager and compiled; the gate first, as in `bench.kernels.epilogue`.

Run: python -m bench.kernels.dequantise; the last line is one JSON object.
"""

from __future__ import annotations

import torch

from bench.kernels import agreement, timing
from kernels.dequantise import reference
from kernels.hadamard.blocks import block_of

CASES = (
    ("256 tiles, 196 x 1024", 256, 196, 1024),
    ("256 tiles, 256 x 1280", 256, 256, 1280),
    ("256 tiles, 196 x 384", 256, 196, 384),
)
"""Name, tiles, patch tokens, width."""


def main() -> None:
    """Gate, time, print."""
    device = timing.prepare()
    from kernels.dequantise import kernel

    rows = []
    for name, n, tokens, width in CASES:
        n, tokens = (n, tokens) if device == "cuda" else (1, 9)
        generator = torch.Generator().manual_seed(0)
        q_NTD = torch.randint(-127, 128, (n, tokens, width), dtype=torch.int8, generator=generator).to(device)
        scale_NT = torch.rand(n, tokens, generator=generator).half().to(device)
        arguments = (q_NTD, scale_NT, block_of(width))
        agreement.dequantise_agrees(kernel.dequantise, *arguments)
        rows.append(timing.row(name, kernel.dequantise, reference.dequantise, arguments, device))
    timing.report("dequantise", device, rows)


if __name__ == "__main__":
    main()
