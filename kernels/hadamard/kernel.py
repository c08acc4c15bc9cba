"""The Hadamard transform of a token in registers: log2(B) butterflies, for the kernels that rotate."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def transform(x_P, BLOCK: tl.constexpr, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """x @ H in each block of BLOCK of the WIDTH entries, both powers of two.

    A step adds and subtracts neighbours and writes all sums before all differences, which turns the block's index bits
    by one place; after log2(BLOCK) steps each bit has had its turn and is where it was.
    """
    STEPS: tl.constexpr = BLOCK.bit_length() - 1
    for _ in tl.static_range(STEPS):
        a, b = tl.split(tl.reshape(x_P, (WIDTH // BLOCK, BLOCK // 2, 2)))
        x_P = tl.reshape(tl.permute(tl.join(a + b, a - b), (0, 2, 1)), (WIDTH,))
    return x_P
