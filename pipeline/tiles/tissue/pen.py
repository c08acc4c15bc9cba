"""Ink on the glass: colours that haematoxylin and eosin do not make."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pen_marks(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Blue and green, saturated red, and black, (H, W) bool.

    Haematoxylin and eosin both absorb green most, so green never clearly exceeds red: ink does. Where ink lies over
    tissue, green exceeds red by little, but next to no red is left beside the blue.
    """
    red_HW, green_HW, blue_HW = (rgb_HWC[..., c].astype(np.int16) for c in range(3))
    high_HW, low_HW = rgb_HWC.max(-1).astype(np.int16), rgb_HWC.min(-1).astype(np.int16)
    blue_or_green_HW = (green_HW - red_HW > 20) | ((green_HW > red_HW) & (2 * red_HW < blue_HW))
    # Eosin and blood stay below 70 % saturation at this resolution; red ink has hardly any green or blue at all.
    red_ink_HW = (red_HW > 110) & (np.maximum(green_HW, blue_HW) < 0.28 * red_HW)
    black_HW = (high_HW < 75) & (high_HW - low_HW < 0.35 * high_HW)
    ink_HW: NDArray[np.bool_] = blue_or_green_HW | red_ink_HW | black_HW
    return ink_HW
