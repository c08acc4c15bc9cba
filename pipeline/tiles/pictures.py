"""Pictures of one slide's tiles for people: what was taken, what was not, and what the tiles look like.

thumb.jpg    the slide, at most 1024 px a side
overlay.jpg  the same: kept tiles as they are under their grid, those dropped though they have tissue tinted by reason
             (`LOST`), the rest faded; tissue outlined in green, ink in orange
mosaic.jpg   up to 24 tiles spread evenly over the rows
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.opencv import cv2
from pipeline.tiles.pixels import encode_jpeg, resize
from pipeline.tiles.resample import shrink
from pipeline.tiles.tissue import TissueMask

THUMB_PX = 1024
_QUALITY = 88
_GRID, _TISSUE, _PEN = (24, 60, 120), (0, 150, 60), (235, 120, 0)
LOST = {"pen": (235, 120, 0), "blank": (0, 170, 200), "blurred": (190, 30, 160), "damaged": (215, 20, 20)}
"""Colours of dropped tiles; templates/slides.css has the same."""
_COLUMNS, _SAMPLES, _CELL_PX, _GUTTER_PX = 6, 24, 164, 6


def write_thumb(folder: Path, picture_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """thumb.jpg from a picture of the whole slide; returns its pixels, (h, w, 3) uint8."""
    height, width = picture_HWC.shape[:2]
    scale = min(1.0, THUMB_PX / max(height, width))
    thumb_HWC = resize(picture_HWC, (max(1, round(width * scale)), max(1, round(height * scale))))
    (folder / "thumb.jpg").write_bytes(encode_jpeg(thumb_HWC, _QUALITY))
    return thumb_HWC


def write_overlay(
    folder: Path,
    thumb_HWC: NDArray[np.uint8],
    mask: TissueMask,
    kept_N4: NDArray[np.float64],
    lost: Mapping[str, NDArray[np.float64]],
) -> None:
    """overlay.jpg; boxes are x0, y0, x1, y1 as fractions of the slide's sides: the kept (N, 4), the lost by reason."""
    thumb = Image.fromarray(thumb_HWC)
    kept, lines = _painted(kept_N4, thumb.size)
    faded = thumb.convert("L").point([round(0.45 * level + 0.55 * 255) for level in range(256)]).convert("RGB")
    canvas = Image.composite(thumb, faded, kept)
    for reason, box_M4 in lost.items():
        if len(box_M4):
            # Where tiles overlap, what is kept is kept.
            lost_area = ImageChops.subtract(_painted(box_M4, thumb.size)[0], kept)
            canvas.paste(LOST[reason], mask=lost_area.point([round(0.4 * level) for level in range(256)]))
    canvas.paste(_GRID, mask=lines.point([round(0.55 * level) for level in range(256)]))
    for part_HW, colour in ((mask.tissue, _TISSUE), (mask.pen, _PEN)):
        canvas.paste(colour, mask=Image.fromarray(_outline(part_HW, thumb.size)))
    (folder / "overlay.jpg").write_bytes(encode_jpeg(np.asarray(canvas), _QUALITY))


def _painted(box_N4: NDArray[np.float64], size_px: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """What the boxes cover, and their borders: 255 on 0, of (width, height)."""
    covered, lines = Image.new("L", size_px), Image.new("L", size_px)
    pixel_N4 = np.floor(np.clip(box_N4, -1, 2) * (*size_px, *size_px) + 0.5).astype(int)
    pixel_N4[:, 2:] = np.minimum(pixel_N4[:, 2:], (size_px[0] - 1, size_px[1] - 1))
    # A tiling made elsewhere may have tiles that are off the slide.
    pixel_N4 = pixel_N4[(pixel_N4[:, :2] <= pixel_N4[:, 2:]).all(1)]
    # A grid of lines closer than this would hide what it is laid over.
    roomy = len(pixel_N4) > 0 and float(np.median(pixel_N4[:, 2] - pixel_N4[:, 0])) >= 10
    draw, draw_lines = ImageDraw.Draw(covered), ImageDraw.Draw(lines)
    for box_4 in pixel_N4:
        box = box_4.tolist()
        draw.rectangle(box, fill=255)
        if roomy:
            draw_lines.rectangle(box, outline=255)
    return covered, lines


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
        sheet_HWC[top : top + _CELL_PX, left : left + _CELL_PX] = _cell(tiles.image(int(row)))
    data = encode_jpeg(sheet_HWC, _QUALITY)
    for name in ("mosaic.jpg", "thumb.jpg") if thumb else ("mosaic.jpg",):
        (folder / name).write_bytes(data)


def _cell(tile_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A tile in the size of the mosaic's cells; of an oblong image its middle square."""
    height, width = tile_HWC.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return shrink(tile_HWC[top : top + side, left : left + side], (float(side), float(side)), _CELL_PX)


def _outline(mask_HW: NDArray[np.bool_], size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """The two-pixel border of a mask, enlarged smoothly to (width, height)."""
    if not mask_HW.any():
        return np.zeros(size_px[::-1], bool)
    large = Image.fromarray(mask_HW.astype(np.uint8) * 255).resize(size_px, Image.Resampling.BICUBIC)
    inside_HW = np.asarray(large) >= 128
    eroded_HW = cv2.erode(inside_HW.view(np.uint8), np.ones((5, 5), np.uint8)).view(bool)
    border_HW: NDArray[np.bool_] = inside_HW & ~eroded_HW
    return border_HW
