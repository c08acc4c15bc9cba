"""The tiles of tiles.json for other tools: where they are on each slide, without their pixels.

    trident  OUT/20x_224px_0px_overlap/patches/<slide>_patches.h5   where TRIDENT looks in its job folder OUT
    clam     OUT/patches/<slide>.h5                                 for extract_features_fp.py --data_h5_dir OUT
    qupath   OUT/<slide>.geojson                                    drop it onto the open slide

Both HDF5 formats are described in tiling.py; the name of a slide is its id, which by default is its file's stem, as
the two tools have it. A size that falls between pixels is rounded, since both read whole pixels. A file that is there
and says otherwise is kept, unless it is to be replaced.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from pipeline.base.items import Level, SlidesManifest, TilesManifest
from pipeline.base.store import Ref, Store
from pipeline.tiles.coords.geojson import tile_object, write_objects
from pipeline.tiles.coords.tiling import clam_attributes, trident_attributes, trident_folder, write_tiling
from pipeline.tiles.item.meta import SlideMeta
from pipeline.tiles.item.reader import TileReader

SQUARE, SQUARE_WITHIN = frozenset({"trident", "clam"}), 0.01
"""Formats that know one side of a tile, and by how much the other may differ: scanners' two axes differ by less."""
SCORES = ("tissue", "sharpness", "haematoxylin", "eosin")
_TILE_COLOUR = (24, 60, 120)


@dataclass(frozen=True)
class Tiled:
    """One slide as the formats want it: its item's tiles, of which `row_N` are meant, their meta.json and
    corners (N, 2), its `levels` as slides.json."""

    slide_id: str
    tiles: TileReader
    meta: SlideMeta
    row_N: NDArray[np.int64]
    corner_N2: NDArray[np.int64]
    overlap_px: int
    levels: tuple[Level, ...]


def export_coords(
    slides: SlidesManifest, tiles: TilesManifest, store: Store, form: str, out: Path, *, replace: bool = False
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
        row_N = reader.rows_at(tiles.target_mpp)
        tiled = Tiled(item.id, reader, meta, row_N, reader.places[row_N], overlap_px, levels[item.id])
        path = out / FORMS[form].path(tiled)
        if _put(path, partial(FORMS[form].write, tiled, path), replace):
            written.append(path)
        else:
            left_out.append(f"{item.id}: {path} is there and says otherwise; --replace writes over it")
    return written, left_out


def _put(path: Path, write: Callable[[Path], None], replace: bool) -> bool:
    """Write a file whole, in one step; False, and nothing, where another is there that is to stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write(fresh)
        if path.exists() and not replace and path.read_bytes() != fresh.read_bytes():
            return False
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    return True


def trident_path(tiled: Tiled) -> PurePath:
    """In the folder that TRIDENT names after scale, size and overlap."""
    meta = tiled.meta
    folder = trident_folder(meta.mpp[0] * meta.size_l0_px[0] / meta.tile_px, meta.tile_px, tiled.overlap_px)
    return PurePath(folder, "patches", f"{tiled.slide_id}_patches.h5")


def trident(tiled: Tiled, final: Path, path: Path) -> None:
    """By the true scale: see `trident_attributes`."""
    meta = tiled.meta
    attributes = trident_attributes(
        meta.tile_px, meta.size_l0_px[0], meta.mpp[0], tiled.overlap_px, (meta.slide_l0_px[0], meta.slide_l0_px[1])
    )
    named = {"name": tiled.slide_id, "savetodir": str(final.parent.parent)}
    write_tiling(path, tiled.corner_N2, {**attributes, **named})


def clam(tiled: Tiled, final: Path, path: Path) -> None:
    """In pixels of the level that is read: see `clam_attributes`."""
    meta = tiled.meta
    attributes = clam_attributes(meta.size_l0_px[0], meta.read_level, tiled.levels[meta.read_level])
    named = {"name": tiled.slide_id, "save_path": str(final.parent)}
    write_tiling(path, tiled.corner_N2, {**attributes, **named})


def qupath(tiled: Tiled, final: Path, path: Path) -> None:
    """A FeatureCollection of tile objects: a square each, in level-0 pixels as QuPath counts, its scores with it."""
    width, height = tiled.meta.size_l0_px
    # QuPath counts from the corner of what was scanned, and TRIDENT and CLAM, as OpenSlide, from the slide's.
    corner_N2 = tiled.corner_N2 if tiled.meta.bounds_l0_px is None else tiled.corner_N2 - tiled.meta.bounds_l0_px[:2]
    table, label_N = tiled.tiles.table.take(tiled.row_N), np.array(tiled.tiles.labels, object)[tiled.row_N]
    score_N = {name: table[name].to_pylist() for name in SCORES}
    objects = [
        tile_object(
            (x, y),
            (width, height),
            {"row": row, **{name: round(score_N[name][i], 4) for name in SCORES}},
            classification={"name": label or "Tile", "color": list(_TILE_COLOUR)},
        )
        for i, ((x, y), row, label) in enumerate(zip(corner_N2.tolist(), tiled.row_N.tolist(), label_N, strict=True))
    ]
    write_objects(path, objects)


@dataclass(frozen=True)
class Form:
    """Where a slide's file is, below the folder; and what writes it: (tiled, where it will be, where to write)."""

    path: Callable[[Tiled], PurePath]
    write: Callable[[Tiled, Path, Path], None]


FORMS = {
    "trident": Form(trident_path, trident),
    "clam": Form(lambda tiled: PurePath("patches", f"{tiled.slide_id}.h5"), clam),
    "qupath": Form(lambda tiled: PurePath(f"{tiled.slide_id}.geojson"), qupath),
}


def go_on(form: str, written: Sequence[Path], out: Path) -> list[str]:
    """How the tool is told to go on from what was written, a command a line, to be run in the tool's own folder."""
    if form == "trident":
        folders = sorted({path.parent.parent.name for path in written})
        common = f"run_batch_of_slides.py --task feat --wsi_dir SLIDES --job_dir {out} --patch_encoder ENCODER"
        return [f"python {common} --coords_dir {folder}" for folder in folders]
    if form == "clam" and written:
        common = "--data_slide_dir SLIDES --slide_ext .svs --csv_path LIST.csv --feat_dir FEATURES"
        return [f"python extract_features_fp.py --data_h5_dir {out} {common}"]
    return []
