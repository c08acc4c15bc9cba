"""The eight elements of the square's symmetry group.

Element e = 4 * mirror + quarter_turns: mirrored left to right first where e >= 4, then turned counter-clockwise. The
first is the tile as it is.
"""

from __future__ import annotations

import numpy as np

from pipeline.base.types import Array

N_ELEMENTS = 8


def apply_view(grid_HWC: Array, element: int) -> Array:
    """A square image or token grid (side, side, …) under one element; contiguous, same dtype."""
    mirror, turns = split_element(element)
    mirrored = grid_HWC[:, ::-1] if mirror else grid_HWC
    return np.ascontiguousarray(np.rot90(mirrored, turns, axes=(0, 1)))


def split_element(element: int) -> tuple[int, int]:
    """(whether mirrored first, quarter turns counter-clockwise). Raises `ValueError` for what is no element."""
    if not 0 <= element < N_ELEMENTS:
        raise ValueError(f"view {element} is not in 0..{N_ELEMENTS - 1}")
    return divmod(element, 4)
