"""Each slide's tissue as QuPath's annotations: what its tiles are laid on, by the same code and parameters.

    OUT/<slide>.geojson   a FeatureCollection, a polygon with its holes for each piece; level-0 pixels, as QuPath counts

It is read again as a mask: the column `mask` of the slide table. Drawn anew there, it may gain pixels in inner corners.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import SlideRefused
from pipeline.base.files import write_atomic
from pipeline.base.types import Json
from pipeline.embed.asked import Asked, LeftOut, find_slides
from pipeline.embed.slides import EmbedParams
from pipeline.export.outlines import Outline, outlines
from pipeline.params.tiles import TilesParams
from pipeline.slides.read.opening import open_slide
from pipeline.tiles.tissue.look import look

_COLOUR = (60, 140, 90)


@dataclass(frozen=True)
class TissueFiles:
    """Of what files are there now, and of which slides none was written."""

    written: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]


def export_tissue(slides: Sequence[Path], params: EmbedParams, out: Path, *, replace: bool = False) -> TissueFiles:
    """Write a file a slide. Raises `EmbedError` or `TableError` for what cannot be asked.

    A file that is there and says otherwise is left as it is, unless `replace`.
    """
    asked, left_out = find_slides(slides, params.slides, params.scratch)
    written = []
    for one in asked:
        path = out / f"{one.name}.geojson"
        try:
            data = json.dumps(tissue_of(one, params.tiles)).encode()
            if path.exists() and not replace and path.read_bytes() != data:
                raise SlideRefused(f"{path} is there and says otherwise", fix="--replace writes over it")
        except SlideRefused as error:
            left_out.append(LeftOut.of(one.name, error))
            continue
        write_atomic(path, data)
        written.append(path)
    return TissueFiles(tuple(written), tuple(left_out))


def tissue_of(asked: Asked, params: TilesParams) -> Json:
    """The FeatureCollection of a slide. Raises `SlideRefused` where it cannot be read or has no tissue."""
    with (
        asked.source.here() as path,
        open_slide(path, asked.source.mpp, params.reader, reduced_dct=params.reduced_dct) as reader,
    ):
        mask_HW = look(reader, params, asked.source.mask).mask.tissue
        size_l0, bounds = (reader.width_px, reader.height_px), reader.bounds
        mpp_xy = reader.mpp_xy
    if not mask_HW.any():
        raise SlideRefused("no tissue was found", fix="look at it in a viewer; draw its tissue: column mask")
    scale_xy = np.array(size_l0) / mask_HW.shape[::-1]
    # QuPath counts from the corner of what was scanned.
    origin_xy = np.array(bounds[:2] if bounds else (0, 0))
    mm2_a_px = float(scale_xy.prod()) * mpp_xy[0] * mpp_xy[1] / 1e6

    def ring(corners: NDArray[np.int64]) -> Json:
        placed = np.round(corners * scale_xy - origin_xy, 2)
        found: Json = np.concatenate([placed, placed[:1]]).tolist()
        return found

    def feature(piece: Outline) -> Json:
        return {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring(piece.ring), *(ring(hole) for hole in piece.holes)]},
            "properties": {
                "objectType": "annotation",
                "classification": {"name": "Tissue", "color": list(_COLOUR)},
                "measurements": {"area_mm2": round(piece.area_px * mm2_a_px, 6)},
            },
        }

    return {"type": "FeatureCollection", "features": [feature(piece) for piece in outlines(mask_HW)]}
