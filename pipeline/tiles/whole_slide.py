"""Tiles one slide file: looks at it small, chooses tiles by their tissue, then reads, resizes and stores them.

Legend: H, W, C = height, width, RGB; A = all tiles of the grid; N = the kept ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import SlideRefused
from pipeline.params import TilesParams
from pipeline.slides.reader import SlideReader
from pipeline.slides.sources import Source
from pipeline.tiles.grid import Geometry, lay, plan, spread_choice
from pipeline.tiles.labels import LabelMap
from pipeline.tiles.pictures import THUMB_PX, write_mosaics, write_overlay, write_thumb
from pipeline.tiles.pixels import encode_jpeg, resize
from pipeline.tiles.quality import sharpness
from pipeline.tiles.strips import strips
from pipeline.tiles.tissue import TissueMask, box_means, coverage, find_tissue
from pipeline.tiles.writer import TileWriter


@dataclass(frozen=True)
class Choice:
    """The kept tiles in raster order: corners in level-0 pixels (N,), share of tissue (N,), optical density of both
    stains (N, 2), and what was dropped.

    `dropped` counts tiles: `glass` too little tissue; `pen` tissue enough, but for the ink; `blank` hardly any stain;
    `edge` not whole; `limit` more than max_tiles_per_slide; `blurred` out of focus, which only the pixels show.
    """

    x_l0: NDArray[np.int64]
    y_l0: NDArray[np.int64]
    tissue: NDArray[np.float64]
    stain: NDArray[np.float64]
    dropped: dict[str, int]


def write_slide_tiles(source: Source, folder: Path, params: TilesParams) -> None:
    """Tile one slide into `folder` (see writer.py).

    Raises `SlideRefused`: it does not open, is coarser than the target, has no tissue, or some of its pixels do not
    decode; a slide never ends as fewer tiles or as white ones.
    """
    with SlideReader(source.path, source.mpp) as reader:
        levels = [(w, h, d) for (w, h), d in zip(reader.level_dimensions, reader.level_downsamples, strict=True)]
        geometry = plan(levels, reader.mpp_xy, params)
        picture_HWC, mask = look(reader, params)
        choice = choose(geometry, mask, params)
        labels = LabelMap(source.label_map, geometry) if source.label_map else None
        writer = TileWriter(folder)
        for strip in strips(geometry, choice.x_l0, choice.y_l0):
            strip_HWC = reader.read(geometry.level, strip.x_l0, strip.y_l0, strip.width_px, strip.height_px)
            for row, box in zip(strip.rows, strip.boxes, strict=True):
                cut_HWC = strip_HWC[box.top : box.bottom, box.left : box.right]
                tile_HWC = resize(cut_HWC, (params.tile_px, params.tile_px), box.inner)
                focus = sharpness(tile_HWC)
                if focus < params.min_sharpness:
                    choice.dropped["blurred"] += 1
                    continue
                x_l0, y_l0 = int(choice.x_l0[row]), int(choice.y_l0[row])
                writer.append(
                    encode_jpeg(tile_HWC, params.jpeg_quality),
                    x_l0=x_l0,
                    y_l0=y_l0,
                    tissue=float(choice.tissue[row]),
                    sharpness=focus,
                    stain=(float(choice.stain[row, 0]), float(choice.stain[row, 1])),
                    label=labels.of(x_l0, y_l0) if labels else None,
                )
        if not len(writer):
            fix = "look at it in a viewer; if it is in focus, lower tiles.min_sharpness"
            raise SlideRefused(f"all {choice.dropped['blurred']} tiles with tissue are out of focus", fix=fix)
        writer.close(_meta(source, reader, geometry, mask, choice))
    thumb_HWC = write_thumb(folder, picture_HWC)
    write_overlay(folder, thumb_HWC, mask, _fractions(geometry, choice.x_l0, choice.y_l0))
    write_mosaics(folder)


def look(reader: SlideReader, params: TilesParams) -> tuple[NDArray[np.uint8], TissueMask]:
    """A small picture of the whole slide, (h, w, 3), and the mask at `mask_mpp` (or the slide's own mpp, if coarser).

    One reading serves both: a slide without a pyramid is read whole for it.
    """
    mpp_x, mpp_y = reader.mpp_xy
    width = max(1, round(reader.width_px * min(1.0, mpp_x / params.tissue.mask_mpp)))
    height = max(1, round(reader.height_px * min(1.0, mpp_y / params.tissue.mask_mpp)))
    picture_HWC = reader.thumbnail(max(THUMB_PX, width, height))
    # Where pixels are not square, the picture may be coarser than the mask along one axis.
    width, height = min(width, picture_HWC.shape[1]), min(height, picture_HWC.shape[0])
    small_HWC = resize(picture_HWC, (width, height), resample=Image.Resampling.BOX)
    mpp_xy = (mpp_x * reader.width_px / width, mpp_y * reader.height_px / height)
    return picture_HWC, find_tissue(small_HWC, mpp_xy, params.tissue)


def choose(geometry: Geometry, mask: TissueMask, params: TilesParams) -> Choice:
    """The tiles of the grid that have enough tissue. Raises `SlideRefused` where there is none."""
    grid = lay(geometry, params.edge)
    x_l0_A, y_l0_A = grid.corners()
    height, width = mask.tissue.shape
    box_A4 = _fractions(geometry, x_l0_A, y_l0_A) * (width, height, width, height)
    tissue_A, either_A = coverage(mask.tissue, box_A4), coverage(mask.tissue | mask.pen, box_A4)
    # A tile without any tissue is never kept, even at a min_coverage of 0.
    enough = max(params.tissue.min_coverage, 1e-6)
    kept_A, inked_A = tissue_A >= enough, (either_A >= enough) & (tissue_A < enough)
    stain_A2 = np.stack([box_means(mask.stain[..., i].astype(np.float64), box_A4) for i in range(2)], axis=1)
    blank_A = kept_A & (stain_A2.sum(1) < params.min_stain)
    kept = np.flatnonzero(kept_A & ~blank_A)
    if not len(kept):
        what = "no tile has enough tissue" if mask.tissue.any() else "no tissue found"
        fix = "if its thumbnail shows tissue, lower tiles.tissue.min_coverage or tiles.tissue.min_area_mm2"
        if blank_A.any():
            what, fix = f"all {blank_A.sum()} tiles with tissue are blank", "lower tiles.min_stain"
        raise SlideRefused(what, fix=fix)
    chosen = kept[spread_choice(len(kept), params.max_tiles_per_slide, params.seed)]
    dropped = {
        "glass": int((~kept_A & ~inked_A).sum()),
        "pen": int(inked_A.sum()),
        "blank": int(blank_A.sum()),
        "edge": grid.lost,
        "limit": len(kept) - len(chosen),
        "blurred": 0,
    }
    return Choice(x_l0_A[chosen], y_l0_A[chosen], tissue_A[chosen], stain_A2[chosen], dropped)


def _fractions(geometry: Geometry, x_l0_N: NDArray[np.int64], y_l0_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """x0, y0, x1, y1 of each tile as fractions of the slide's width and height, (N, 4)."""
    (width, height), (width_l0, height_l0) = geometry.slide_l0, geometry.size_l0
    box_4N = (x_l0_N / width, y_l0_N / height, (x_l0_N + width_l0) / width, (y_l0_N + height_l0) / height)
    return np.stack(box_4N, axis=1)


def _meta(source: Source, reader: SlideReader, geometry: Geometry, mask: TissueMask, choice: Choice) -> dict[str, Any]:
    return {
        "kind": source.kind,
        "tile_px": geometry.tile_px,
        "mpp": list(reader.mpp_xy),
        "mpp_from": reader.mpp_from,
        "size_l0_px": list(geometry.size_l0),
        "slide_l0_px": list(geometry.slide_l0),
        "read_level": geometry.level,
        "read_downsample": geometry.downsample,
        "tissue_mm2": round(mask.area_mm2, 4),
        "tissue_threshold": round(mask.threshold, 4),
        "dropped": choice.dropped,
    }
