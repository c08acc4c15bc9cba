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

from collections.abc import Iterable
from pathlib import Path

from pipeline.base.errors import SlideRefused, some_lines
from pipeline.base.files import dvc_root
from pipeline.base.items import TRAIN
from pipeline.base.names import at_home
from pipeline.base.progress import console
from pipeline.params.evaluate import DatasetParams
from pipeline.sets.csv_table import list_table
from pipeline.sets.h5 import list_h5
from pipeline.sets.listing import Picture, problem
from pipeline.slides.cells import alike
from pipeline.slides.images import list_images
from pipeline.slides.split import near_train
from pipeline.slides.walk import Walked

SAID = 5
"""Files that are left out of a folder, that are named."""


def list_set(params: DatasetParams) -> dict[str, list[Picture]]:
    """The pictures of each split, in a fixed order.

    Raises `EvaluationError` where the set is not there or not as its kind says, has no split `train` or no other, or
    has a group both in `train` and in a held-out split.
    """
    path = at_home(params.path)
    # A temporary experiment does not carry the files: they lie beside the project that it was made from.
    path = path if path.is_absolute() or path.exists() else dvc_root() / path
    if not path.exists():
        raise problem(params, "is not there", f"check `path`: {params.path}")
    if path.is_dir() == (params.kind == "csv"):
        what = f"`path` is a {'folder' if path.is_dir() else 'file'}: {params.path}"
        raise problem(params, what, "kind csv takes the table itself, every other kind the folder")
    found = {"folder": _folders, "csv": list_table, "masks": _masks, "h5": list_h5}[params.kind](path, params)
    found = {split: pictures for split, pictures in sorted(found.items()) if pictures}
    if TRAIN not in found or len(found) < 2:
        what = f"has the splits {', '.join(found) or 'none'}; probes need {TRAIN!r} and a held-out one"
        near = near_train(found)
        fix = f"call {near[0]!r} {TRAIN!r}" if near else f"see the layout of kind {params.kind!r} in docs/parameters.md"
        raise problem(params, what, fix)
    _check_groups(params, found)
    labels = (picture.label for pictures in found.values() for picture in pictures)
    for remark in alike(labels, "missing" if params.kind in ("csv", "h5") else None):
        console.print(f"evaluate.datasets: {params.name}: labels {remark}", soft_wrap=True)
    return found


def _check_groups(params: DatasetParams, found: dict[str, list[Picture]]) -> None:
    groups = {split: {p.group for p in pictures if p.group is not None} for split, pictures in found.items()}
    for split in set(found) - {TRAIN}:
        shared = sorted(groups[TRAIN] & groups[split])
        if shared:
            what = f"group {shared[0]!r} is in {TRAIN!r} and in {split!r} ({len(shared)} such groups)"
            raise problem(params, what, "give all images of a patient or slide the same split")


def _folders(path: Path, params: DatasetParams) -> dict[str, list[Picture]]:
    return {
        folder.name: [
            Picture(f"{folder.name}/{name}", folder / name, label) for name, label in _images(folder, params, path)
        ]
        for folder in _subfolders(path)
    }


def _masks(path: Path, params: DatasetParams) -> dict[str, list[Picture]]:
    found = {}
    for folder in _subfolders(path):
        images, masks = (_by_stem(folder / part, params, path) for part in ("images", "masks"))
        for part, names, other, there in (("images", images, "mask", masks), ("masks", masks, "image", images)):
            alone = sorted(set(names) - set(there))
            if alone:
                fix = "a mask has its image's name; its suffix may differ"
                what = f"{names[alone[0]].relative_to(path)} has no {other} ({len(alone)} such {part})"
                raise problem(params, what, fix)
        found[folder.name] = [
            Picture(file.relative_to(path).as_posix(), file, mask=masks[stem]) for stem, file in images.items()
        ]
    return found


def _by_stem(folder: Path, params: DatasetParams, root: Path) -> dict[str, Path]:
    """{path below the folder without its suffix: file}."""
    if not folder.is_dir():
        raise problem(params, f"{folder.parent.name} has no folder {folder.name!r}", "SPLIT/images and SPLIT/masks")
    found: dict[str, Path] = {}
    for name, _ in _images(folder, params, root):
        stem = name.rpartition(".")[0]
        if stem in found:
            what = (
                f"{folder.relative_to(root)} has {found[stem].name} and {Path(name).name}, which differ in their suffix"
            )
            raise problem(params, what, "drop one of the two")
        found[stem] = folder / name
    return found


def _images(folder: Path, params: DatasetParams, root: Path) -> list[tuple[str, str | None]]:
    walked = Walked()
    try:
        found = list_images(folder, walked)
    except SlideRefused as error:
        raise problem(params, f"{folder.relative_to(root)}: {error.what}", error.fix) from None
    left_out = [f"left out: {name} ({reason})" for name, reason in walked.left_out]
    for line in some_lines(left_out, SAID, f"more below {folder}"):
        console.print(f"evaluate.datasets: {params.name}: {line}", soft_wrap=True)
    return found


def _subfolders(path: Path) -> Iterable[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
