"""What a picture that is a mask marks: the values that it stores, not the colours that it is shown in.

A palette's index 0 may be shown white, and index 1 black: the index counts, and so does a TIFF's 0 where its 0 is
white, as tifffile writes booleans. Where a picture has transparency, what is transparent is not marked, and what is
drawn in black on nothing is. A JPEG keeps no value as it is: in it what is nearer to white than to black is marked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "F")
LOSSY = ("JPEG", "MPO")
"""Formats that do not keep a pixel's value."""
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0


def stored_values(image: Image.Image) -> NDArray[Any] | None:
    """The value of each pixel of a picture of one channel, (H, W), a palette's indices; None where it has colours."""
    if image.mode not in ONE_CHANNEL:
        return None
    value_HW = np.asarray(image.convert("L") if image.mode == "1" else image)
    # Pillow turns these, of all that a TIFF can hold, into what is shown.
    turned = image.mode in ("1", "L") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    return 255 - value_HW if turned else value_HW


def marked(image: Image.Image) -> NDArray[np.bool_]:
    """Which pixels a picture marks, (H, W): neither 0 nor transparent."""
    value_HW = stored_values(image)
    if value_HW is None:
        value_HW = np.asarray(image.convert("RGB")).max(-1)
    least = 128 if image.format in LOSSY else 0
    # NaN is neither.
    set_HW = np.asarray(value_HW >= least if least else (value_HW > 0) | (value_HW < 0), np.bool_)
    if not image.has_transparency_data:
        return set_HW
    shown_HW: NDArray[np.bool_] = np.asarray(image.convert("RGBA").getchannel("A")) > 0
    both_HW: NDArray[np.bool_] = set_HW & shown_HW
    return both_HW if both_HW.any() or shown_HW.all() else shown_HW
