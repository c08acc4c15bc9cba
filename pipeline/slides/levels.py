"""Whether a level of a file can be what it says: the whole slide, smaller."""

from __future__ import annotations

_TOLERANCE = 0.1
"""Both axes are reduced alike, to within this and a pixel: levels are rounded, and some scanners pad them."""


def is_reduced(whole_px: tuple[int, int], level_px: tuple[int, int]) -> bool:
    """Whether a level of that (width, height) can show a slide of `whole_px`; files have been seen to lie."""
    if min(level_px) < 1:
        return False
    (width, height), (level_width, level_height) = whole_px, level_px
    ratio = max(width / level_width, height / level_height)
    off_x, off_y = abs(level_width - width / ratio), abs(level_height - height / ratio)
    return off_x <= 1 + _TOLERANCE * level_width and off_y <= 1 + _TOLERANCE * level_height
