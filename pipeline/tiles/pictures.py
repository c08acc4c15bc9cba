"""Pictures of one slide's tiles for people: what was taken, what was not, and what the tiles look like.

thumb.jpg    the slide, at most 1024 px a side
overlay.jpg  the same: kept tiles in colour under their grid, the rest faded, tissue outlined in green, ink in orange
mosaic.jpg   up to 24 tiles spread evenly over the rows
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline.tiles.pixels import encode_jpeg, resize
from pipeline.tiles.reader import TileReader
from pipeline.tiles.tissue import TissueMask

THUMB_PX = 1024
_QUALITY = 88
_GRID, _TISSUE, _PEN = (24, 60, 120), (0, 150, 60), (235, 120, 0)
_COLUMNS, _SAMPLES, _CELL_PX, _GUTTER_PX = 6, 24, 164, 6


def write_thumb(folder: Path, picture_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """thumb.jpg from a picture of the whole slide; returns its pixels, (h, w, 3) uint8."""
    height, width = picture_HWC.shape[:2]
    scale = min(1.0, THUMB_PX / max(height, width))
    thumb_HWC = resize(picture_HWC, (max(1, round(width * scale)), max(1, round(height * scale))))
    (folder / "thumb.jpg").write_bytes(encode_jpeg(thumb_HWC, _QUALITY))
    return thumb_HWC


def write_overlay(folder: Path, thumb_HWC: NDArray[np.uint8], mask: TissueMask, boxes_N4: NDArray[np.float64]) -> None:
    """overlay.jpg; `boxes_N4` are the kept tiles' x0, y0, x1, y1 as fractions of the slide's width and height."""
    height, width = thumb_HWC.shape[:2]
    pixel_N4 = np.floor(boxes_N4 * (width, height, width, height) + 0.5).astype(int)
    kept_HW = np.zeros((height, width), bool)
    lines_HW = np.zeros((height, width), bool)
    # A grid of lines closer than this would hide what it is laid over.
    roomy = len(pixel_N4) > 0 and float(np.median(pixel_N4[:, 2] - pixel_N4[:, 0])) >= 10
    for x0, y0, x1, y1 in pixel_N4:
        right, bottom = min(x1, width - 1), min(y1, height - 1)
        kept_HW[y0 : bottom + 1, x0 : right + 1] = True
        if roomy:
            lines_HW[[y0, bottom], x0 : right + 1] = True
            lines_HW[y0 : bottom + 1, [x0, right]] = True
    grey_HW1 = thumb_HWC.mean(-1, keepdims=True)
    canvas_HWC = np.where(kept_HW[..., None], thumb_HWC, 0.45 * grey_HW1 + 0.55 * 255)
    canvas_HWC[lines_HW] = 0.45 * canvas_HWC[lines_HW] + 0.55 * np.array(_GRID)
    for part_HW, colour in ((mask.tissue, _TISSUE), (mask.pen, _PEN)):
        canvas_HWC[_outline(part_HW, (width, height))] = colour
    (folder / "overlay.jpg").write_bytes(encode_jpeg(canvas_HWC.astype(np.uint8), _QUALITY))


def write_mosaics(folder: Path, *, thumb: bool = False) -> None:
    """mosaic.jpg of the item's tiles; with `thumb` also thumb.jpg, for what is no slide and has no other likeness."""
    tiles = TileReader(folder)
    n = min(_SAMPLES, len(tiles))
    rows = np.linspace(0, len(tiles) - 1, n).round().astype(int)
    columns = min(_COLUMNS, n)
    step = _CELL_PX + _GUTTER_PX
    sheet_HWC = np.full((-(-n // columns) * step + _GUTTER_PX, columns * step + _GUTTER_PX, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        top, left = (i // columns) * step + _GUTTER_PX, (i % columns) * step + _GUTTER_PX
        sheet_HWC[top : top + _CELL_PX, left : left + _CELL_PX] = tiles.image(int(row), _CELL_PX)
    data = encode_jpeg(sheet_HWC, _QUALITY)
    for name in ("mosaic.jpg", "thumb.jpg") if thumb else ("mosaic.jpg",):
        (folder / name).write_bytes(data)


def _outline(mask_HW: NDArray[np.bool_], size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """The two-pixel border of a mask, enlarged smoothly to (width, height)."""
    large = Image.fromarray(mask_HW.astype(np.uint8) * 255).resize(size_px, Image.Resampling.BICUBIC)
    inside_HW = np.asarray(large) >= 128
    border_HW: NDArray[np.bool_] = inside_HW & ~ndimage.binary_erosion(inside_HW, iterations=2, border_value=1)
    return border_HW
