"""The tiles of tiles.json for other tools: where they are on each slide, without their pixels.

    trident  OUT/patches/<slide>_patches.h5   in a job folder, TRIDENT goes on from there with its feature extraction
    clam     OUT/patches/<slide>.h5           for extract_features_fp.py --data_h5_dir OUT
    qupath   OUT/<slide>.geojson              drop it onto the open slide

Both HDF5 formats are described in tiling.py; the name of a slide is its id, which by default is its file's stem, as
the two tools have it. A size that falls between pixels is rounded, since both read whole pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.items import Level, SlidesManifest, TilesManifest
from pipeline.base.store import Ref, Store
from pipeline.tiles.coords.geojson import tile_object, write_objects
from pipeline.tiles.coords.tiling import clam_attributes, trident_attributes, write_tiling
from pipeline.tiles.item.meta import SlideMeta
from pipeline.tiles.item.reader import TileReader

SQUARE, SQUARE_WITHIN = frozenset({"trident", "clam"}), 0.01
"""Formats that know one side of a tile, and by how much the other may differ: scanners' two axes differ by less."""
SCORES = ("tissue", "sharpness", "haematoxylin", "eosin")
_TILE_COLOUR = (24, 60, 120)


@dataclass(frozen=True)
class Tiled:
    """One slide as the formats want it: its tiles, their meta.json and corners (N, 2), its `levels` as slides.json."""

    slide_id: str
    tiles: TileReader
    meta: SlideMeta
    corner_N2: NDArray[np.int64]
    overlap_px: int
    levels: tuple[Level, ...]


def export_coords(
    slides: SlidesManifest, tiles: TilesManifest, store: Store, form: str, out: Path
) -> tuple[list[Path], list[str]]:
    """One file a slide in `form` (a key of `FORMS`); returns them, and what was left out, in words.

    Folders of images have no coordinates. Where pixels are not square, a tile is an oblong of them: TRIDENT and CLAM,
    which know one side of a patch, would read other tissue than is in the tile, so they get no file of such a slide.
    """
    levels = {item.id: item.levels for item in slides.items}
    given = {item.id for item in slides.items if item.coords is not None}
    written, left_out = [], []
    for item in tiles.items:
        reader = TileReader(store.path(Ref.of(tiles, item)))
        meta = reader.meta
        if not isinstance(meta, SlideMeta):
            left_out.append(f"{item.id}: a folder of images has no coordinates")
            continue
        width, height = meta.size_l0_px
        if form in SQUARE and abs(width / height - 1) > SQUARE_WITHIN:
            what = f"its pixels are not square (a tile is {width:.1f} x {height:.1f} of them), which {form} cannot say"
            left_out.append(f"{item.id}: {what}; --format qupath can")
            continue
        # A tiling made elsewhere lies as it was given, whatever overlap the grid would have.
        overlap_px = 0 if item.id in given else tiles.overlap_px
        corner_N2 = reader.places[reader.rows_at(tiles.target_mpp)]
        tiled = Tiled(item.id, reader, meta, corner_N2, overlap_px, levels[item.id])
        written.append(FORMS[form](tiled, out))
    return written, left_out


def trident(tiled: Tiled, out: Path) -> Path:
    """By the true scale: see `trident_attributes`."""
    meta, path = tiled.meta, out / "patches" / f"{tiled.slide_id}_patches.h5"
    attributes = trident_attributes(
        meta.tile_px, meta.size_l0_px[0], meta.mpp[0], tiled.overlap_px, (meta.slide_l0_px[0], meta.slide_l0_px[1])
    )
    write_tiling(path, tiled.corner_N2, {**attributes, "name": tiled.slide_id, "savetodir": str(out)})
    return path


def clam(tiled: Tiled, out: Path) -> Path:
    """In pixels of the level that is read: see `clam_attributes`."""
    meta, path = tiled.meta, out / "patches" / f"{tiled.slide_id}.h5"
    attributes = clam_attributes(meta.size_l0_px[0], meta.read_level, tiled.levels[meta.read_level])
    named = {"name": tiled.slide_id, "save_path": str(out / "patches")}
    write_tiling(path, tiled.corner_N2, {**attributes, **named})
    return path


def qupath(tiled: Tiled, out: Path) -> Path:
    """A FeatureCollection of tile objects: a square each, in level-0 pixels as QuPath counts, its scores with it."""
    path = out / f"{tiled.slide_id}.geojson"
    width, height = tiled.meta.size_l0_px
    # QuPath counts from the corner of what was scanned, and TRIDENT and CLAM, as OpenSlide, from the slide's.
    corner_N2 = tiled.corner_N2 if tiled.meta.bounds_l0_px is None else tiled.corner_N2 - tiled.meta.bounds_l0_px[:2]
    score_N = {name: tiled.tiles.table[name].to_pylist() for name in SCORES}
    objects = [
        tile_object(
            (x, y),
            (width, height),
            {"row": row, **{name: round(score_N[name][row], 4) for name in SCORES}},
            classification={"name": label or "Tile", "color": list(_TILE_COLOUR)},
        )
        for row, ((x, y), label) in enumerate(zip(corner_N2.tolist(), tiled.tiles.labels, strict=True))
    ]
    write_objects(path, objects)
    return path


FORMS: dict[str, Callable[[Tiled, Path], Path]] = {"trident": trident, "clam": clam, "qupath": qupath}
