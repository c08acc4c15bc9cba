"""Whether a level of a file can be what it says: the whole slide, smaller."""

from __future__ import annotations

_TOLERANCE = 0.1
"""Both axes are reduced alike, to within this and a pixel: levels are rounded, and some scanners pad them."""


def is_reduced(whole_px: tuple[int, int], level_px: tuple[int, int]) -> bool:
    """Whether a level of that (width, height) can show a slide of `whole_px`; files have been seen to lie."""
    if min(level_px) < 1:
        return False
    # The longer axis tells the factor: rounding to whole pixels changes it least.
    long = 0 if whole_px[0] >= whole_px[1] else 1
    expected = whole_px[1 - long] * level_px[long] / whole_px[long]
    return abs(level_px[1 - long] - expected) <= 1 + _TOLERANCE * expected
