"""Ink on the glass: colours that haematoxylin and eosin do not make."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.tiles.tissue.otsu import darkest_and_brightest


def pen_marks(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Blue and green, saturated red, and black, (H, W) bool.

    Haematoxylin and eosin both absorb green most, so green never clearly exceeds red: ink does. Where ink lies over
    tissue, green exceeds red by little, but next to no red is left beside the blue.
    """
    red_HW, green_HW, blue_HW = (rgb_HWC[..., c].astype(np.int16) for c in range(3))
    low_HW, high_HW = (bound_HW.astype(np.int16) for bound_HW in darkest_and_brightest(rgb_HWC))
    blue_or_green_HW = (green_HW - red_HW > 20) | ((green_HW > red_HW) & (2 * red_HW < blue_HW))
    # Eosin and blood stay below 70 % saturation at this resolution; red ink has hardly any green or blue at all.
    red_ink_HW = (red_HW > 110) & (np.maximum(green_HW, blue_HW) < 0.28 * red_HW)
    black_HW = (high_HW < 75) & (high_HW - low_HW < 0.35 * high_HW)
    ink_HW: NDArray[np.bool_] = blue_or_green_HW | red_ink_HW | black_HW
    return ink_HW
