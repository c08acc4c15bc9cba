"""What a labelled data set holds: its pictures by split, before any of them is decoded.

    folder   PATH/SPLIT/CLASS/…/*.jpg            one folder a split, in it one a class
    csv      a table with the columns path, label and optionally split, group (patient or slide); paths relative to it
    masks    PATH/SPLIT/images/NAME.*, PATH/SPLIT/masks/NAME.*   one channel, the class of every pixel
    h5       PATH/SPLIT.h5 with `x` (N, H, W, 3) uint8 and `y` (N, …), or PCam's own …_SPLIT_x.h5 and …_SPLIT_y.h5,
             with the slides of …_SPLIT_meta.csv (column wsi) as groups where it is there

Probes are fitted on the split `train`; all others are held out. Every problem of a set is an `EvaluationError` that
names it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from pipeline.errors import EvaluationError, SlideRefused, TableError
from pipeline.params import DatasetParams
from pipeline.slides.images import list_images
from pipeline.slides.split import TRAIN, resolve_splits
from pipeline.slides.table import Row
from pipeline.store import dvc_root

CSV_COLUMNS = ("path", "label", "split", "group")
TEST_FRACTION = 0.2
"""Share of groups held out where a CSV has no split."""


@dataclass(frozen=True)
class Picture:
    """One image: the file it is in (and its row, in an HDF5 file), and what is known of it."""

    name: str
    path: Path
    label: str | None = None
    group: str | None = None
    index: int | None = None
    mask: Path | None = None


def list_set(params: DatasetParams) -> dict[str, list[Picture]]:
    """The pictures of each split, in a fixed order.

    Raises `EvaluationError` where the set is not there or not as its kind says, has no split `train` or no other, or
    has a group both in `train` and in a held-out split.
    """
    path = Path(params.path).expanduser()
    # A temporary experiment does not carry the files: they lie beside the project that it was made from.
    path = path if path.is_absolute() or path.exists() else dvc_root() / path
    if not path.exists():
        raise _error(params, "is not there", f"check `path`: {params.path}")
    try:
        found = {"folder": _folders, "csv": _table, "masks": _masks, "h5": _h5}[params.kind](path, params)
    except SlideRefused as error:
        raise _error(params, f"{error.where}: {error.what}", error.fix) from None
    found = {split: pictures for split, pictures in sorted(found.items()) if pictures}
    if TRAIN not in found or len(found) < 2:
        what = f"has the splits {', '.join(found) or 'none'}; probes need {TRAIN!r} and a held-out one"
        raise _error(params, what, f"see the layout of kind {params.kind!r} in docs/parameters.md")
    _check_groups(params, found)
    return found


def _check_groups(params: DatasetParams, found: dict[str, list[Picture]]) -> None:
    groups = {split: {p.group for p in pictures if p.group is not None} for split, pictures in found.items()}
    for split in set(found) - {TRAIN}:
        shared = sorted(groups[TRAIN] & groups[split])
        if shared:
            what = f"group {shared[0]!r} is in {TRAIN!r} and in {split!r} ({len(shared)} such groups)"
            raise _error(params, what, "give all images of a patient or slide the same split")


def _folders(path: Path, params: DatasetParams) -> dict[str, list[Picture]]:
    found = {}
    for folder in _subfolders(path):
        found[folder.name] = [Picture(name, folder / name, label) for name, label in list_images(folder)]
    return found


def _table(path: Path, params: DatasetParams) -> dict[str, list[Picture]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise _error(params, f"is not UTF-8: {error.reason} at byte {error.start}", "save the table as UTF-8") from None
    columns = set(rows[0]) if rows else set()
    if not {"path", "label"} <= columns <= set(CSV_COLUMNS):
        what = f"has the columns {', '.join(sorted(map(str, columns))) or 'none'}"
        raise _error(params, what, f"path, label and optionally split, group; no others: {path.name}")
    cells = [{key: (row.get(key) or "").strip() or None for key in CSV_COLUMNS} for row in rows]
    for line, (row, cell) in enumerate(zip(rows, cells, strict=True), 2):
        if None in row:
            what = f"line {line} has more cells than the {len(columns)} columns"
            raise _error(params, what, "put a cell with a comma between double quotes")
        if cell["path"] is None or not (path.parent / str(cell["path"])).is_file():
            raise _error(params, f"line {line}: file not found: {cell['path']}", "paths are relative to the CSV file")
    names = [str(cell["path"]) for cell in cells]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _error(params, f"lists {twice} twice", "one row an image")
    table = [
        Row(line, name, name, split=cell["split"], patient=cell["group"])
        for line, (name, cell) in enumerate(zip(names, cells, strict=True), 2)
    ]
    try:
        split = resolve_splits(table, TEST_FRACTION)
    except TableError as error:
        raise _error(params, f"{error.where}: {error.what}", error.fix) from None
    found: dict[str, list[Picture]] = {}
    for name, cell in zip(names, cells, strict=True):
        picture = Picture(name, path.parent / name, cell["label"], cell["group"])
        found.setdefault(split[name], []).append(picture)
    return found


def _masks(path: Path, params: DatasetParams) -> dict[str, list[Picture]]:
    found = {}
    for folder in _subfolders(path):
        for part in ("images", "masks"):
            if not (folder / part).is_dir():
                raise _error(params, f"{folder.name} has no folder {part!r}", "SPLIT/images and SPLIT/masks")
        masks = {name.rpartition(".")[0]: folder / "masks" / name for name, _ in list_images(folder / "masks")}
        pictures = []
        for name, _ in list_images(folder / "images"):
            mask = masks.get(name.rpartition(".")[0])
            if mask is None:
                fix = "a mask has its image's name; its suffix may differ"
                raise _error(params, f"{folder.name}/images/{name} has no mask", fix)
            pictures.append(Picture(name, folder / "images" / name, mask=mask))
        found[folder.name] = pictures
    return found


def _h5(path: Path, params: DatasetParams) -> dict[str, list[Picture]]:
    found = {}
    for file in sorted([*path.glob("*.h5"), *path.glob("*.hdf5")]):
        stem = file.stem
        if stem.endswith(("_y", "_mask")):
            continue
        pair = stem.endswith("_x")
        split = stem.removesuffix("_x").rpartition("_")[2] if pair else stem
        answers = file.with_name(stem.removesuffix("_x") + "_y" + file.suffix) if pair else file
        if not answers.is_file():
            raise _error(params, f"{file.name} has no {answers.name} beside it", "labels are in its dataset `y`")
        labels = _h5_labels(params, file, answers)
        groups = _h5_groups(params, file.with_name(stem.removesuffix("_x") + "_meta.csv"), len(labels))
        found[split] = [
            Picture(f"{split}-{i}", file, label, group, i)
            for i, (label, group) in enumerate(zip(labels, groups, strict=True))
        ]
    return found


def _h5_labels(params: DatasetParams, images: Path, answers: Path) -> list[str]:
    try:
        with h5py.File(images) as x, h5py.File(answers) as y:
            shape, dtype, label_N = x["x"].shape, x["x"].dtype, np.asarray(y["y"])
    except (OSError, KeyError) as error:
        raise _error(
            params, f"{images.name} has no dataset x, or {answers.name} no y: {error}", "as PCam has"
        ) from None
    if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8 or label_N.size != shape[0]:
        what = f"{images.name}: x is {dtype}{tuple(shape)}, y has {label_N.size} values"
        raise _error(params, what, "x (N, H, W, 3) uint8, y one value an image")
    return [str(value) for value in label_N.ravel()]


def _h5_groups(params: DatasetParams, path: Path, n: int) -> Sequence[str | None]:
    """The slide of each image; read or refused, since without them a slide in two splits could not be seen."""
    if not path.is_file():
        return [None] * n
    with open(path, encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        rows, columns = list(table), table.fieldnames or ()
    if len(rows) != n or "wsi" not in columns:
        what = f"{path.name} has {len(rows)} rows for {n} images and the columns {', '.join(columns)}"
        raise _error(params, what, "a row an image with its slide in `wsi`; without that, move the file away")
    return [row["wsi"] or None for row in rows]


def _subfolders(path: Path) -> Iterable[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _error(params: DatasetParams, what: str, fix: str) -> EvaluationError:
    return EvaluationError(what, where=f"evaluate.datasets: {params.name}", fix=fix)
