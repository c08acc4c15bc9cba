"""Tiles one slide file: looks at it small, chooses tiles by their tissue, then reads, resizes and stores them.

What is chosen, and how it is read, is apart (`choose_tiles`), for those who want the pixels alone.

Legend: H, W, C = height, width, RGB.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import SlideRefused
from pipeline.params.tiles import TilesParams
from pipeline.slides.files import files_of
from pipeline.slides.read.given import require_given
from pipeline.slides.read.opening import open_slide
from pipeline.slides.read.reader import DAMAGED_FIX, DamagedPixels, SlideReader
from pipeline.slides.sources import Source
from pipeline.tiles.choice import (
    Choice,
    NoTiles,
    Unseen,
    choose,
    choose_given,
    fractions,
    geometry_given,
    sticking_out,
    touching,
)
from pipeline.tiles.coords.tiling import Tiling, read_tiling
from pipeline.tiles.cutting import Cut, Pixels, cut, read_padded, read_tiles
from pipeline.tiles.grid import Geometry, geometry_of, lay
from pipeline.tiles.item.meta import SlideMeta
from pipeline.tiles.item.writer import Scores, TileWriter
from pipeline.tiles.labels import LabelMap
from pipeline.tiles.lost.no_tiles import Picture, refusal
from pipeline.tiles.pictures import write_mosaics, write_overlay, write_thumb
from pipeline.tiles.quota import draw
from pipeline.tiles.tissue import TissueMask
from pipeline.tiles.tissue.look import Look, look


@dataclass(frozen=True)
class Chosen:
    """Of an open slide the tiles worth reading: `choice` on `geometry`, and what is known of them before they are read.

    `given`: they are of a tiling made elsewhere, which is not judged. `tissue_N`: the share of each that is no glass as
    far as the file's gaps go; `outside_N`: which stick out of the slide; `unseen_N2`: corners of those that the
    thumbnail could not show.
    """

    geometry: Geometry
    choice: Choice
    seen: Look
    given: bool
    tissue_N: NDArray[np.float64]
    outside_N: NDArray[np.bool_]
    unseen_N2: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.choice.x_l0)

    def read(self, reader: SlideReader, row_M: NDArray[np.int64]) -> Iterator[Pixels]:
        """The tiles of the given rows: those inside the slide in raster order, then those that stick out."""
        x_l0, y_l0 = self.choice.x_l0, self.choice.y_l0
        inside_M = self._inside(row_M)
        for tile in read_tiles(reader, self.geometry, x_l0[inside_M], y_l0[inside_M], self.tissue_N[inside_M]):
            yield replace(tile, row=int(inside_M[tile.row]))
        for row in row_M[self.outside_N[row_M]].tolist():
            yield read_padded(reader, self.geometry, int(x_l0[row]), int(y_l0[row]), row)

    def cut(self, reader: SlideReader, row_M: NDArray[np.int64], jpeg_quality: int) -> Iterator[Cut]:
        """The same as JPEG."""
        x_l0, y_l0 = self.choice.x_l0, self.choice.y_l0
        inside_M = self._inside(row_M)
        places = x_l0[inside_M], y_l0[inside_M], self.tissue_N[inside_M]
        for tile in cut(reader, self.geometry, *places, jpeg_quality):
            yield replace(tile, row=int(inside_M[tile.row]))
        for row in row_M[self.outside_N[row_M]].tolist():
            yield read_padded(reader, self.geometry, int(x_l0[row]), int(y_l0[row]), row).encoded(jpeg_quality)

    def without_picture(self) -> Chosen:
        """The same without what is only for people and for the mask: up to 640 MB."""
        nothing_HWC, none_HW = np.empty((0, 0, 3), np.uint8), np.empty((0, 0), bool)
        mask = replace(self.seen.mask, tissue=none_HW, pen=none_HW, stain=np.empty((0, 0, 2), np.float32))
        return replace(self, seen=Look(nothing_HWC, nothing_HWC, self.seen.mpp_xy, None, mask, self.seen.marks_all))

    def _inside(self, row_M: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the rows that are wholly on the slide; neighbours are read together, so in raster order."""
        whole_M = row_M[~self.outside_N[row_M]]
        raster_M: NDArray[np.int64] = whole_M[np.lexsort((self.choice.x_l0[whole_M], self.choice.y_l0[whole_M]))]
        return raster_M


def choose_tiles(reader: SlideReader, source: Source, params: TilesParams) -> Chosen:
    """The tiles of an open slide that are worth reading: of its own tiling, or of the grid by its tissue.

    Raises `SlideRefused`: the slide is coarser than the target, or has no tissue; `SlideUnavailable` where what of it
    does not decode could not be read either.
    """
    levels = [(w, h, d) for (w, h), d in zip(reader.level_dimensions, reader.level_downsamples, strict=True)]
    tiling = read_tiling(source.coords, levels) if source.coords else None
    geometry = geometry_given(levels, tiling, params) if tiling else geometry_of(levels, reader.mpp_xy, params)
    try:
        seen = look(reader, params, source.mask)
    except DamagedPixels:
        require_given(files_of(source.path), whole=True)
        raise
    if reader.unseen:
        require_given(files_of(source.path), whole=True)
    return _chosen(reader, geometry, tiling, seen, source, params)


def _at_scale(reader: SlideReader, source: Source, seen: Look, params: TilesParams) -> Chosen:
    """The tiles of a slide that has been looked at, on the grid of another scale. Raises `SlideRefused`."""
    levels = [(w, h, d) for (w, h), d in zip(reader.level_dimensions, reader.level_downsamples, strict=True)]
    return _chosen(reader, geometry_of(levels, reader.mpp_xy, params), None, seen, source, params)


def _chosen(
    reader: SlideReader, geometry: Geometry, tiling: Tiling | None, seen: Look, source: Source, params: TilesParams
) -> Chosen:
    levels = [(w, h, d) for (w, h), d in zip(reader.level_dimensions, reader.level_downsamples, strict=True)]
    mask, unseen = seen.mask, reader.unseen
    if tiling:
        choice = choose_given(geometry, tiling, mask)
    else:
        try:
            choice = choose(geometry, mask, params, unseen)
        except NoTiles as nothing:
            picture = Picture(levels, reader.mpp_xy, seen.small_HWC, seen.mpp_xy, seen.own_HW)
            raise refusal(picture, params, nothing) from None
    unseen_N2 = np.empty((0, 2), np.int64)
    # A tiling or a mask made elsewhere knows what is glass without the thumbnail.
    if unseen and not tiling and not source.mask:
        unseen_N2 = _unseen(geometry, choice, params.edge, unseen)
    # Where the thumbnail shows nothing, what the file leaves out is not known to be glass.
    tissue_N = np.where(touching(geometry, choice.x_l0, choice.y_l0, unseen), 1.0, choice.tissue)
    outside_N = sticking_out(geometry, choice.x_l0, choice.y_l0)
    return Chosen(geometry, choice, seen, tiling is not None, tissue_N, outside_N, unseen_N2)


def write_slide_tiles(source: Source, folder: Path, params: TilesParams, reader: SlideReader | None = None) -> None:
    """Tile one slide into `folder` (see writer.py), read through `reader` where it is already open.

    Tiles that do not decode, or that the file leaves out where there is tissue, are left out and counted as `damaged`;
    none is ever stored as white. Raises `SlideRefused`: the slide does not open, is coarser than the target, has no
    tissue, or nothing of it decodes; and `SlideUnavailable` where what does not decode could not be read either.
    """
    opened = reader or open_slide(source.path, source.mpp, params.reader, reduced_dct=params.reduced_dct)
    with contextlib.nullcontext(reader) if reader else opened as reader:
        chosen = choose_tiles(reader, source, params)
        geometry, choice, seen = chosen.geometry, chosen.choice, chosen.seen
        mask, unseen_N2 = seen.mask, chosen.unseen_N2
        dropped = dict(choice.dropped)
        if len(unseen_N2):
            dropped["glass"] -= len(unseen_N2)
        writer = TileWriter(folder)
        written = _append(chosen, reader, source, params, writer)
        lost_rows = written.lost_rows
        dropped.update({reason: len(rows) for reason, rows in lost_rows.items()})
        dropped["limit"] = len(choice.x_l0) - len(writer) - sum(map(len, lost_rows.values()))
        dropped["damaged"] += len(unseen_N2)
        if lost_rows["damaged"]:
            require_given(files_of(source.path), whole=True)
        if not len(writer):
            raise all_lost(dropped, written.sharpest)
        said = _remarks(seen, choice, len(writer), int(chosen.outside_N.sum()))
        said += _append_scales(reader, source, seen, params, writer)
        meta = _meta(source, reader, geometry, mask, dropped, written.as_scanned)
        writer.close(meta.model_copy(update={"remarks": said}))
    thumb_HWC = write_thumb(folder, seen.picture_HWC)
    corner_N2 = np.stack([choice.x_l0, choice.y_l0], axis=1)
    lost = choice.lost | {reason: corner_N2[rows] for reason, rows in lost_rows.items()}
    lost["damaged"] = np.concatenate([lost["damaged"], unseen_N2])
    lost_boxes = {reason: fractions(geometry, *corner_M2.T) for reason, corner_M2 in lost.items()}
    write_overlay(folder, thumb_HWC, mask, fractions(geometry, *corner_N2[written.kept_rows].T), lost_boxes)
    write_mosaics(folder)


@dataclass
class Written:
    """What became of the tiles that were chosen: rows of `Chosen.choice`, how many are the file's own, the sharpest."""

    kept_rows: list[int] = field(default_factory=list)
    lost_rows: dict[str, list[int]] = field(default_factory=lambda: {"blurred": [], "damaged": []})
    as_scanned: int = 0
    sharpest: float = 0.0


def _append(chosen: Chosen, reader: SlideReader, source: Source, params: TilesParams, writer: TileWriter) -> Written:
    """Cut the tiles of one scale, `params.target_mpp`, and give those that are kept to `writer`."""
    choice, found = chosen.choice, Written()
    labels = LabelMap(source.label_map, chosen.geometry) if source.label_map else None

    def cut_rows(row_M: NDArray[np.int64]) -> Iterator[Cut]:
        return chosen.cut(reader, row_M, params.jpeg_quality)

    n, limit, folder = len(choice.x_l0), params.max_tiles_per_slide, writer.folder
    # A tiling made elsewhere is not judged.
    min_sharpness = 0.0 if chosen.given else params.min_sharpness
    for tile in draw(cut_rows, n, limit, params.seed, folder, min_sharpness, in_order=not chosen.given):
        reason, found.sharpest = tile.lost(min_sharpness), max(found.sharpest, tile.sharpness)
        if tile.jpeg is None or reason is not None:
            found.lost_rows[reason or "damaged"].append(tile.row)
            continue
        found.kept_rows.append(tile.row)
        x_l0, y_l0 = int(choice.x_l0[tile.row]), int(choice.y_l0[tile.row])
        haematoxylin, eosin = choice.stain[tile.row].tolist()
        scores = Scores(float(choice.tissue[tile.row]), tile.sharpness, haematoxylin, eosin)
        label = labels.of(x_l0, y_l0) if labels else None
        given = str(tile.row) if chosen.given else None
        writer.append(tile.jpeg, x_l0=x_l0, y_l0=y_l0, scores=scores, label=label, source=given)
        found.as_scanned += tile.as_scanned
    return found


def _append_scales(
    reader: SlideReader, source: Source, seen: Look, params: TilesParams, writer: TileWriter
) -> tuple[str, ...]:
    """The tiles of `params.also_mpp`, after those of the slide's own scale, from the look at the slide that those had.

    A scale that the slide does not have (it is coarser) is left out; in words.
    """
    said = []
    if params.also_mpp:
        writer.are_of(params.target_mpp)
    for mpp in params.also_mpp:
        before = len(writer)
        try:
            there = params.at(mpp)
            _append(_at_scale(reader, source, seen, there), reader, source, there, writer)
        except SlideRefused as nothing:
            said.append(f"no tiles at {mpp:g} um/px: {nothing.what}")
            continue
        finally:
            writer.are_of(mpp)
        said.append(f"{len(writer) - before} of its tiles are of {mpp:g} um/px")
    return tuple(said)


def all_lost(dropped: Mapping[str, int], sharpest: float) -> SlideRefused:
    """Of a slide none of whose chosen tiles is left once their pixels are known."""
    damaged, blurred = dropped["damaged"], dropped["blurred"]
    what = f"of its tiles with tissue {damaged} do not decode and {blurred} are out of focus: none is left"
    if not blurred:
        return SlideRefused(what, fix=DAMAGED_FIX)
    least = math.floor(sharpest * 100) / 100
    fix = f"look at it in a viewer; to keep its sharpest, lower tiles.min_sharpness to {least:g}"
    return SlideRefused(what, fix=fix)


def _remarks(seen: Look, choice: Choice, kept: int, padded: int) -> tuple[str, ...]:
    """What a person should know of how the slide was tiled."""
    said = []
    if seen.marks_all:
        said.append("its mask marks next to all of the slide, glass too: is 0 what it has for glass?")
    if seen.fits_both:
        what = "its mask is taken for one of the whole slide, and has the proportions of what was scanned of it too"
        said.append(f"{what}: if it is of that alone, as from QuPath, give it as GeoJSON")
    if padded:
        said.append(f"{padded} of its coordinates stick out of the slide, and their tiles are black there")
    if kept < len(choice.x_l0) and "glass" not in choice.dropped:
        what = f"{len(choice.x_l0) - kept} of its {len(choice.x_l0)} coordinates have no tile"
        said.append(f"{what}: the column source of its tiles.parquet has the row of those that have one")
    return tuple(said)


def _unseen(geometry: Geometry, choice: Choice, edge: str, boxes: Unseen) -> NDArray[np.int64]:
    """Corners (M, 2) of tiles that touch what the thumbnail could not show: left out as glass, and perhaps are not."""
    corner_A2 = np.stack(lay(geometry, edge).corners(), axis=1)
    touching_A2 = corner_A2[touching(geometry, corner_A2[:, 0], corner_A2[:, 1], boxes)]
    known_N2 = np.concatenate([*choice.lost.values(), np.stack([choice.x_l0, choice.y_l0], axis=1)])
    place = np.array([1, geometry.slide_l0[0]])
    rest_M2: NDArray[np.int64] = touching_A2[~np.isin(touching_A2 @ place, known_N2 @ place)]
    return rest_M2[: choice.dropped["glass"]]


def _meta(
    source: Source,
    reader: SlideReader,
    geometry: Geometry,
    mask: TissueMask,
    dropped: Mapping[str, int],
    as_scanned: int,
) -> SlideMeta:
    level, dct_scale = reader.own(geometry.level)
    height, width = mask.tissue.shape
    return SlideMeta(
        kind=source.kind,
        tile_px=geometry.tile_px,
        mpp=reader.mpp_xy,
        mpp_from=reader.mpp_from,
        size_l0_px=geometry.size_l0,
        slide_l0_px=geometry.slide_l0,
        read_level=level,
        read_downsample=reader.level_downsamples[level],
        dct_scale=dct_scale,
        reader=reader.method,
        as_scanned=as_scanned,
        tissue_mm2=round(mask.area_mm2, 4),
        mask_mpp=(
            round(reader.mpp_xy[0] * reader.width_px / width, 4),
            round(reader.mpp_xy[1] * reader.height_px / height, 4),
        ),
        tissue_threshold=round(mask.threshold, 4),
        dropped=dropped,
        bounds_l0_px=reader.bounds,
    )
