"""`histill heatmap`: of one slide a pyramidal TIFF and a GeoJSON, which QuPath lays over it, and a picture for people.

    <slide>.<by>.tiff     a colour a tile at the slide's own scale (pyramid.py)
    <slide>.<by>.geojson  the tiles as objects, each with its colour and the numbers behind it
    <slide>.<by>.png      the slide, the map over it, a scale, a legend

Where a file says that less than its whole canvas was scanned, both count from the corner of what was, as QuPath does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.maps.colours import Coloured
from pipeline.maps.pyramid import downsample_of, paint, write_pyramid
from pipeline.maps.sheet import FAINT, MARGIN_PX, TEXT_PX, Sheet
from pipeline.maps.source import Embedded
from pipeline.slides.read.reader import SlideReader
from pipeline.tiles.coords.geojson import tile_object, write_objects

PANEL_PX = 1100
"""Longer side of the slide's picture."""
_OPACITY = 0.7
_DIGITS = 4


def write_map(of: Embedded, coloured: Coloured, out: Path, by: str) -> list[Path]:
    """The three files, in the order above. Raises `SlideRefused` where the slide does not open."""
    tiff, geojson, png = (out / f"{of.name}.{by}.{suffix}" for suffix in ("tiff", "geojson", "png"))
    with of.open() as reader:
        x_l0, y_l0, width, height = reader.bounds or (0, 0, reader.width_px, reader.height_px)
        corner_N2 = of.tiles.corner_N2 - (x_l0, y_l0)
        step = downsample_of(of.tiles.size_l0, (width, height))
        size_px = -(-width // step), -(-height // step)
        size = of.tiles.size_l0[0] / step, of.tiles.size_l0[1] / step
        map_HWC = paint(coloured.rgb_N3, corner_N2 / step, size, size_px)
        write_pyramid(tiff, map_HWC, (reader.mpp_xy[0] * step, reader.mpp_xy[1] * step))
        _write_objects(geojson, of, coloured, corner_N2)
        _draw(reader, of, coloured).write(png)
    return [tiff, geojson, png]


def _write_objects(path: Path, of: Embedded, coloured: Coloured, corner_N2: NDArray[np.int64]) -> None:
    number_N = {name: np.round(value_N, _DIGITS).tolist() for name, value_N in coloured.measured.items()}
    objects = [
        tile_object(
            (x, y),
            of.tiles.size_l0,
            {"row": row, **{name: numbers[row] for name, numbers in number_N.items()}},
            color=colour,
        )
        for row, ((x, y), colour) in enumerate(zip(corner_N2.tolist(), coloured.rgb_N3.tolist(), strict=True))
    ]
    write_objects(path, objects)


def _draw(reader: SlideReader, of: Embedded, coloured: Coloured) -> Sheet:
    """The slide beside the map over it, and below them what the colours mean."""
    thumb_HWC = reader.thumbnail(PANEL_PX)
    height, width = thumb_HWC.shape[:2]
    scale = np.array([width / reader.width_px, height / reader.height_px])
    size = (of.tiles.size_l0[0] * scale[0], of.tiles.size_l0[1] * scale[1])
    corner_N2, nothing_N3 = of.tiles.corner_N2 * scale, np.zeros_like(coloured.rgb_N3)
    map_HWC = paint(coloured.rgb_N3, corner_N2, size, (width, height))
    inside_HW = paint(nothing_N3, corner_N2, size, (width, height))[..., 0] == 0
    over_HWC = thumb_HWC.copy()
    blend = _OPACITY * map_HWC[inside_HW] + (1 - _OPACITY) * thumb_HWC[inside_HW]
    over_HWC[inside_HW] = blend.round().astype(np.uint8)
    wide = max(2 * width + 3 * MARGIN_PX, 900)
    head, foot = MARGIN_PX + 2 * TEXT_PX, 3 * TEXT_PX + MARGIN_PX
    sheet = Sheet(wide, head + height + foot)
    sheet.text(f"{of.name}: {coloured.title}", MARGIN_PX, MARGIN_PX, most_px=wide - 2 * MARGIN_PX)
    for picture_HWC, left in ((thumb_HWC, MARGIN_PX), (over_HWC, width + 2 * MARGIN_PX)):
        sheet.paste(np.full((height + 2, width + 2, 3), FAINT, np.uint8), left - 1, head - 1)
        sheet.paste(picture_HWC, left, head)
        if coloured.marked is not None:
            x, y = (corner_N2[coloured.marked] + (left, head)).tolist()
            sheet.box((x, y, x + size[0], y + size[1]))
    top = head + height + TEXT_PX
    told = sheet.scale_bar(MARGIN_PX, top, reader.mpp_xy[0] / scale[0], width // 3)
    left = max(width + 2 * MARGIN_PX, told + 2 * MARGIN_PX)
    if coloured.scale is not None:
        left += sheet.legend(left, top, coloured.scale) + 2 * MARGIN_PX
    sheet.text(f"{len(of.tiles)} tiles", left, top - 4)
    return sheet
