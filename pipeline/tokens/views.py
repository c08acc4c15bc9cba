"""Views: the exact inputs that a teacher's answer belongs to, as the eight elements of the square's symmetry group.

Element e = 4 * mirror + quarter_turns: mirrored left to right first where e >= 4, then turned counter-clockwise. View
v of an item is element v, so that one view is the tile as it is and eight are the whole group. A cached target is
replayed by applying the same element to the student's input; turning a cached token grid instead is *not* the teacher's
answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

N_ELEMENTS = 8


def apply_view(grid_HWC: NDArray[Any], element: int) -> NDArray[Any]:
    """A square image or token grid (side, side, …) under one element; contiguous, same dtype."""
    mirror, turns = divmod(_checked(element), 4)
    mirrored = grid_HWC[:, ::-1] if mirror else grid_HWC
    return np.ascontiguousarray(np.rot90(mirrored, turns, axes=(0, 1)))


def apply_view_batch(image_NHWC: Tensor, element: int) -> Tensor:
    """The same on a batch on any device: (N, side, side, …)."""
    mirror, turns = divmod(_checked(element), 4)
    mirrored = image_NHWC.flip(2) if mirror else image_NHWC
    return torch.rot90(mirrored, turns, dims=(1, 2)).contiguous()


def inverse(element: int) -> int:
    """The element that undoes it: mirrors undo themselves, turns go back."""
    mirror, turns = divmod(_checked(element), 4)
    return element if mirror else (4 - turns) % 4


def _checked(element: int) -> int:
    if not 0 <= element < N_ELEMENTS:
        raise ValueError(f"view {element} is not in 0..{N_ELEMENTS - 1}")
    return element
