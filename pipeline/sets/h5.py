"""A data set as HDF5: `x` (N, H, W, 3) uint8 and `y` (N, …), in one file a split or in PCam's pair of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.base.errors import TableError
from pipeline.base.progress import console
from pipeline.params.evaluate import DatasetParams
from pipeline.sets.listing import Picture, problem
from pipeline.slides.cells import class_of, one_spelling, present, rows_of, without_index


def list_h5(path: Path, params: DatasetParams) -> dict[str, list[Picture]]:
    """The pictures of each split, one a row of `x`. Raises `EvaluationError`."""
    found: dict[str, list[Picture]] = {}
    for file in sorted([*path.glob("*.h5"), *path.glob("*.hdf5")]):
        stem = file.stem
        if stem.endswith(("_y", "_mask")):
            continue
        pair = stem.endswith("_x")
        split = stem.removesuffix("_x").rpartition("_")[2] if pair else stem
        answers = file.with_name(stem.removesuffix("_x") + "_y" + file.suffix) if pair else file
        if not answers.is_file():
            raise problem(params, f"{file.name} has no {answers.name} beside it", "labels are in its dataset `y`")
        if split in found:
            what = f"{found[split][0].path.name} and {file.name} are both of split {split!r}"
            raise problem(params, what, "one file of images a split; move the other away")
        labels = _labels(params, file, answers)
        groups = _groups(params, file.with_name(stem.removesuffix("_x") + "_meta.csv"), len(labels))
        found[split] = [
            Picture(f"{split}-{i}", file, label, group, i)
            for i, (label, group) in enumerate(zip(labels, groups, strict=True))
        ]
    return _of_one_spelling(found, params)


def _labels(params: DatasetParams, images: Path, answers: Path) -> list[str | None]:
    import h5py  # here, since most sets are none

    fix = "x (N, H, W, 3) uint8, y one value an image"
    try:
        with h5py.File(images) as x, h5py.File(answers) as y:
            for file, name in ((x, "x"), (y, "y")):
                if not isinstance(file.get(name), h5py.Dataset):
                    there = ", ".join(file) or "nothing"
                    what = f"{Path(file.filename).name} has no {name} that is a dataset; it holds {there}"
                    raise problem(params, what, fix)
            shape, dtype, label_N = x["x"].shape, x["x"].dtype, np.asarray(y["y"])
    except OSError as error:
        raise problem(params, f"{images.name} or {answers.name} cannot be read: {error}", "download it again") from None
    if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8 or label_N.size != shape[0]:
        raise problem(params, f"{images.name}: x is {dtype}{tuple(shape)}, y has {label_N.size} values", fix)
    return [class_of(value, params.missing) for value in label_N.ravel().tolist()]


def _groups(params: DatasetParams, path: Path, n: int) -> Sequence[str | None]:
    """The slide of each image; read or refused, since without them a slide in two splits could not be seen."""
    if not path.is_file():
        return [None] * n
    try:
        header, *rows = without_index(rows_of(path.read_text(encoding="utf-8-sig"))[1]) or [[]]
    except (UnicodeDecodeError, TableError) as error:
        raise problem(
            params, f"{path.name} cannot be read: {error}", "save it as CSV (UTF-8), or move it away"
        ) from None
    if len(rows) != n or "wsi" not in header:
        what = f"{path.name} has {len(rows)} rows for {n} images and the columns {', '.join(header)}"
        raise problem(params, what, "a row an image with its slide in `wsi`; without that, move the file away")
    at = header.index("wsi")
    return [present(row[at]) if at < len(row) else None for row in rows]


def _of_one_spelling(found: dict[str, list[Picture]], params: DatasetParams) -> dict[str, list[Picture]]:
    """The pictures with the groups of all splits in one spelling: a slide that is in two of them is a leak."""
    pictures = [picture for split in found.values() for picture in split]
    groups, said = one_spelling([picture.group for picture in pictures])
    for line in said:
        console.print(f"evaluate.datasets: {params.name}: slides {line}", soft_wrap=True)
    named = iter(groups)
    return {split: [replace(picture, group=next(named)) for picture in of] for split, of in found.items()}
