"""One tile under one view, with numpy: what the student's loader does in its threads.

Not torch, whose own threads would fight with the loader's over an operation of half a millisecond.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.views.crop import crop
from pipeline.views.dihedral import apply_view
from pipeline.views.fields import ALPHA, AS_IT_IS, BETA
from pipeline.views.stain import jitter


def view_of_tile(image_HWC: NDArray[np.uint8], fields_P: NDArray[np.float32], out_px: int) -> NDArray[np.uint8]:
    """A square tile (side, side, 3) uint8 under the view of `fields_P`, (out_px, out_px, 3) uint8."""
    if image_HWC.ndim != 3 or image_HWC.shape[0] != image_HWC.shape[1]:
        raise ValueError(f"a tile is square, this is {image_HWC.shape}")
    viewed_HWC = crop(image_HWC, fields_P, out_px)
    if changes_stain(fields_P):
        viewed_HWC = jitter(viewed_HWC, fields_P)
    return apply_view(viewed_HWC, int(fields_P[0]))


def changes_stain(fields: NDArray[np.float32]) -> bool:
    """Whether any of the fields (…, P) scales or shifts a stain."""
    return bool((fields[..., ALPHA] != AS_IT_IS[ALPHA]).any() or (fields[..., BETA] != AS_IT_IS[BETA]).any())
