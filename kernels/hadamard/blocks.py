"""The rotation's tables, in plain Python: how many channels a block has, its matrix, its signs. See reference.py."""

from __future__ import annotations

MAX_BLOCK = 64
"""On a CNN's tokens blocks of 32, 64, 128, 256 lose 0.97, 0.87, 0.83, 0.80 %; undoing 128 costs a CPU twice as much."""


def block_of(width: int) -> int:
    """The block for D channels: the largest power of two that divides it, at most `MAX_BLOCK`; 1 is no rotation."""
    return min(width & -width, MAX_BLOCK)


def sign_list(block: int) -> list[float]:
    """The Rudin-Shapiro sequence: -1 where i has an odd number of adjacent 11 in binary, else 1."""
    return [_sign(i & (i >> 1)) for i in range(block)]


def matrix_rows(block: int) -> list[list[float]]:
    """Sylvester's Hadamard matrix, entries of 1 and -1. Raises `ValueError` where `block` is no power of two."""
    if block < 1 or block & (block - 1):
        raise ValueError(f"a rotation's block is a power of two, not {block}")
    return [[_sign(i & j) for j in range(block)] for i in range(block)]


def _sign(bits: int) -> float:
    """-1 where an odd number of bits is set."""
    return -1.0 if bits.bit_count() % 2 else 1.0
