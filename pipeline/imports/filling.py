"""A slide table whose columns `coords` and `features` name what another tool has made of its slides.

Features stay where they are: a table names them. The tilings are written anew, small files in one form, whatever tool
they are of, so that features of several teachers on the same tiles share the tiles.
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from pipeline.base.errors import SlideRefused, TableError
from pipeline.base.files import write_atomic
from pipeline.cluster.refusals import about_slide, of_others
from pipeline.imports.encoders import channels, require_teacher
from pipeline.imports.formats.feature_file import FeatureFile, OfOtherSlides, Places
from pipeline.imports.formats.opening import open_features
from pipeline.imports.found import feature_files
from pipeline.imports.placing import Placed, needs_mpp, placed, require_apart, require_step
from pipeline.slides.table import Row
from pipeline.teachers.registry import entry_of
from pipeline.tiles.coords.importing import assigned, by_name, names_of, shown_from, slide_name
from pipeline.tiles.coords.tiling import side_of, write_tiling

Mpp = Callable[[Row], tuple[float, float]]
"""Of a slide um per level-0 pixel, x and y. Raises `SlideRefused`."""


@dataclass(frozen=True)
class Asked:
    """Whose features they are, and what their files leave open: a tile's side, or the `coords` folder that says it.

    Tilings are written to `tilings`; paths are told as a table in `base` names them.
    """

    teacher: str
    tilings: Path
    base: Path
    side_l0: float | None = None
    side_um: float | None = None
    coords: Path | None = None


@dataclass(frozen=True)
class Filled:
    """The rows, what did not match in words, the slides whose features were refused, and what the files are."""

    rows: list[Row]
    remarks: list[str]
    refused: list[tuple[str, SlideRefused]]
    files: list[FeatureFile]


def with_features(rows: Sequence[Row], job: Path, asked: Asked, mpp_of: Mpp) -> Filled:
    """The rows with both columns filled from `job`; a slide whose features are refused has neither.

    Raises `TableError` where there are no features, of several encoders, or none of a slide of the table.
    """
    files = feature_files(job, asked.teacher)
    if len(files) == 1 and (many := _of_many(files[0], rows)) is not None:
        own, remarks = many, list[str]()
    else:
        own, remarks = assigned(rows, by_name(files, job, slide_name), job)
    filled, bad, taken = list[Row](), list[tuple[str, SlideRefused]](), list[FeatureFile]()
    for row, path in zip(rows, own, strict=True):
        if path is None:
            filled.append(row)
            remarks.append(f"no features for {row.slide_id}: the stage tokens will refuse it")
            continue
        try:
            features, places, found = _one(row, path, asked, mpp_of)
        except Exception as error:
            about = about_slide(error, row.slide_id)
            if not isinstance(about, SlideRefused):
                raise
            bad.append((row.slide_id, about))
            filled.append(row)
            continue
        taken.append(features)
        tiling = _written(row, features, places, found, asked.tilings)
        coords, its_features = (shown_from(file.absolute(), asked.base) for file in (tiling, path))
        filled.append(dataclasses.replace(row, coords=coords, features=its_features))
    return Filled(filled, remarks, bad, taken)


def _of_many(path: Path, rows: Sequence[Row]) -> list[Path | None] | None:
    """One file that holds many slides, for each row that it has; None where it is of one slide.

    Raises `TableError` where it has none of them, or nobody can make sense of it and it is named after none.
    """
    found: list[Path | None] = []
    damaged, others = None, False
    for row in rows:
        try:
            if not open_features(path, row.slide_id).many:
                return None
            others = True
        except OfOtherSlides:
            others = True
            found.append(None)
            continue
        except SlideRefused as error:
            # Whether it is of many is then said by another slide of it; this one is refused when it is its turn.
            damaged = damaged or error
        found.append(path)
    if not others and damaged and slide_name(path) not in {name for row in rows for name in names_of(row)}:
        raise TableError(damaged.what, where="import features", fix=damaged.fix)
    return found if others and any(found) else None


def _one(row: Row, path: Path, asked: Asked, mpp_of: Mpp) -> tuple[FeatureFile, Places, Placed]:
    """One slide's features, looked at but not read, and where they lie, as they say and on the slide."""
    features = open_features(path, row.slide_id)
    require_teacher(features.encoder, asked.teacher)
    entry = entry_of(asked.teacher)
    if entry is not None:
        channels(features.width, asked.teacher, entry.width)
    places = features.places or _of_h5(path, features.n)
    if len(places.corner_N2) != features.n:
        what = f"its features {path.name} have {features.n} rows, and {len(places.corner_N2)} coordinates"
        raise SlideRefused(what, fix="extract them again")
    side = asked.side_l0
    if places.side is None and side is None and asked.side_um is None:
        side = _side_beside(path, places, asked.coords)
    mpp_xy = mpp_of(row) if needs_mpp(places) or (places.side is None and asked.side_um is not None) else None
    if side is None and asked.side_um is not None and mpp_xy is not None:
        side = asked.side_um / mpp_xy[0]
    found = placed(places, side, mpp_xy)
    require_apart(found)
    if places.overlap is not None or features.tool == "STAMP":
        require_step(found, places.overlap or 0.0)
    return features, places, found


def _of_h5(path: Path, n: int) -> Places:
    """The places of a tensor of CLAM's, from the HDF5 file that was written with it."""
    if path.suffix != ".pt":
        what = f"its features {path.name} say nothing of where its tiles lie"
        raise SlideRefused(what, fix="give them coords (N, 2), or x and y, of the tiles' corners in level-0 pixels")
    if path.parent.name == "tile_embeddings":
        what = f"its features {path.name} stand without {path.stem}.meta.json, which says where their tiles lie"
        raise SlideRefused(what, fix="copy it beside them, from slide2vec's folder")
    twin = path.parent.parent / "h5_files" / f"{path.stem}.h5"
    if not twin.is_file():
        fix = "give the folder that has h5_files/ too, or h5_files/ itself"
        raise SlideRefused(
            f"its features {path.name} say nothing of where its tiles lie, and {twin} is not there", fix=fix
        )
    found = open_features(twin, path.stem)
    if found.places is None or found.n != n:
        raise SlideRefused(
            f"its features {path.name} have {n} rows, and {twin.name} has {found.n}", fix="extract them again"
        )
    return found.places


def _side_beside(path: Path, places: Places, coords: Path | None) -> float | None:
    """The side that the coordinates' own file tells, where it is there and has the same coordinates."""
    import h5py

    from pipeline.imports.formats.hdf5 import attributes_of

    job = path.parent.parent
    folders = [coords, coords / "patches"] if coords else [job / "patches", job.parent / "patches"]
    names = (f"{path.stem}.h5", f"{path.stem}_patches.h5")
    file = next((f for folder in folders if folder for name in names if (f := folder / name).is_file()), None)
    if file is None:
        return None
    with of_others(file, "its coordinates", functools.partial(_unread, file)), h5py.File(file, "r") as opened:
        corner_N2, attributes = np.asarray(opened["coords"]), attributes_of(opened["coords"])
    if corner_N2.shape != places.corner_N2.shape or not np.array_equal(corner_N2, places.corner_N2):
        what = f"its features {path.name} do not lie at the {len(corner_N2)} places of {file}"
        raise SlideRefused(what, fix="give the coordinates that they were extracted at: --coords")
    try:
        return side_of(attributes)
    except (KeyError, IndexError):
        return None


def _unread(file: Path, what: str) -> SlideRefused:
    return SlideRefused(
        f"the coordinates of its features {file}: the file {what}", fix="copy it again, or extract again"
    )


def _written(row: Row, features: FeatureFile, places: Places, found: Placed, folder: Path) -> Path:
    """The slide's tiling, the same bytes whichever tool it is of."""
    attributes: dict[str, ArrayLike] = {"patch_size_level0": float(found.side)}
    if places.slide_l0 is not None:
        attributes |= {"level0_width": places.slide_l0[0], "level0_height": places.slide_l0[1]}
    path = folder / f"{row.slide_id}.h5"
    data = io.BytesIO()
    write_tiling(data, np.rint(found.corner_N2).astype(np.int64), attributes)
    write_atomic(path, data.getvalue())
    return path


def said(filled: Filled, asked: Asked) -> list[str]:
    """What the features are, and what params.yaml has to say for them. Raises `TableError` where none can be taken."""
    if not filled.files:
        first = f"{filled.refused[0][0]}: {filled.refused[0][1].what}" if filled.refused else "no slide has any"
        fix = filled.refused[0][1].fix if filled.refused else "are they of the slides of the table?"
        raise TableError(f"no features can be taken ({first})", where="import features", fix=fix)
    kinds = sorted({(one.tool, one.encoder or "an encoder that it does not name", one.dtype) for one in filled.files})
    tiles = sum(one.n for one in filled.files)
    lines = [f"{len(filled.files)} slides, {tiles} tiles: " + "; ".join(f"{t}, {e}, {d}" for t, e, d in kinds)]
    wanted = f"tokens.teacher: {asked.teacher}"
    sides = {one.patch_px for one in filled.files if one.patch_px}
    if len(sides) == 1:
        wanted += f", tiles.tile_px: {sides.pop()}"
    return [*lines, f"set in params.yaml: {wanted}"]
