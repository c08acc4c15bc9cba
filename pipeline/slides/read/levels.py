"""Whether a level of a file can be what it says, and whether what is asked of it fits in a worker's memory."""

from __future__ import annotations

from pipeline.base.errors import SlideRefused

_TOLERANCE = 0.1
"""Both axes are reduced alike, to within this and a pixel an axis: levels are rounded, and some scanners pad them."""
MAX_READ_PX = 1 << 25
"""Pixels of one read: at up to 15 bytes a pixel on the way through OpenSlide and Pillow, half a GiB."""
MAX_TILE_PX = 1 << 26
"""Pixels of a file's own tile, all of which OpenSlide decodes for any of them; 256 MiB."""


def is_reduced(whole_px: tuple[int, int], level_px: tuple[int, int]) -> bool:
    """Whether a level of that (width, height) can show a slide of `whole_px`; files have been seen to lie."""
    if min(level_px) < 1:
        return False
    # The longer axis tells the factor: rounding to whole pixels changes it least.
    long = 0 if whole_px[0] >= whole_px[1] else 1
    ratio = whole_px[1 - long] / whole_px[long]
    expected = ratio * level_px[long]
    # A pixel of rounding on the shorter axis, and one on the longer, which is `ratio` pixels of the shorter.
    return abs(level_px[1 - long] - expected) <= 1 + ratio + _TOLERANCE * expected


def require_readable(size_px: tuple[int, int], own_tile_px: tuple[int, int] = (0, 0), where: str = "") -> None:
    """Raises `SlideRefused` where a read of (width, height) pixels, or the tiles it is made of, would be too large."""
    if size_px[0] * size_px[1] > MAX_READ_PX:
        what = f"{size_px[0]} x {size_px[1]} px would be read at once, and a worker's memory is kept for {MAX_READ_PX}"
        raise SlideRefused(what, where=where, fix="lower tiles.tile_px, or give it a level nearer to tiles.target_mpp")
    if own_tile_px[0] * own_tile_px[1] > MAX_TILE_PX:
        what = f"its own tiles are of {own_tile_px[0]} x {own_tile_px[1]} px, each decoded as a whole"
        fix = "write it again in tiles: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg"
        raise SlideRefused(what, where=where, fix=fix)
