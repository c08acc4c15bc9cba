"""A slide table for a folder: every file that OpenSlide recognises and every folder of images below it."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from pipeline.base.errors import TableError
from pipeline.slides.images import IMAGE_SUFFIXES
from pipeline.slides.read.reader import detect_vendor
from pipeline.slides.table import Row, default_id, format_table

SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm"}
)


def scan(folder: Path) -> str:
    """CSV text that `read_table` reads, one row a slide; paths are relative to the working directory where below it.

    A folder whose images lie in class folders (or that holds only images) is one row. Files that look like slides but
    that OpenSlide does not recognise follow as comments. Raises `TableError` where there is nothing at all.
    """
    if not folder.is_dir():
        raise TableError("not a folder", where=str(folder), fix="histill scan DIR > slides.csv")
    slides: list[Path] = []
    image_folders: set[Path] = set()
    unknown: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(parent, name)
            suffix = path.suffix.lower()
            if suffix in IMAGE_SUFFIXES - SLIDE_SUFFIXES:
                image_folders.add(path.parent)
            elif detect_vendor(path) is not None:
                slides.append(path)
            elif suffix in SLIDE_SUFFIXES:
                unknown.append(path)
    found = sorted([*_one_series_each(slides), *_tile_folders(image_folders, folder)])
    if not found and not unknown:
        fix = "give the folder that holds the slides, or one above it"
        raise TableError("nothing here that OpenSlide recognises", where=str(folder), fix=fix)
    paths = [_shown(path) for path in found]
    text = format_table(Row(0, path, slide_id) for path, slide_id in zip(paths, _ids(paths), strict=True))
    return text + "".join(f"# not recognised by OpenSlide: {_shown(path)!r}\n" for path in unknown)


def _one_series_each(slides: list[Path]) -> list[Path]:
    """A DICOM slide is a folder of files, any of which opens it: the first stands for all."""
    first_dicom: dict[Path, Path] = {}
    for path in slides:
        if path.suffix.lower() == ".dcm":
            first_dicom.setdefault(path.parent, path)
    return [path for path in slides if path.suffix.lower() != ".dcm"] + list(first_dicom.values())


def _tile_folders(image_folders: set[Path], top: Path) -> set[Path]:
    """The folders to list for folders that hold images: the parent where all its folders do (they are the classes)."""
    tile_folders = set()
    for folder in image_folders:
        siblings = {path for path in folder.parent.iterdir() if path.is_dir() and not path.name.startswith(".")}
        is_class = folder != top and len(siblings) > 1 and siblings <= image_folders
        tile_folders.add(folder.parent if is_class else folder)
    return tile_folders


def _ids(paths: list[str]) -> list[str]:
    """Unique ids: the stem, with the names of the folders above it where several share one."""
    ids = [default_id(path) for path in paths]
    for depth in range(2, 6):
        shared = {slide_id for slide_id, count in Counter(ids).items() if count > 1}
        if not shared:
            break
        for i, path in enumerate(paths):
            if ids[i] in shared:
                parts = [*Path(path).parts[:-1], default_id(path)][-depth:]
                ids[i] = re.sub(r"[^A-Za-z0-9._-]", "_", "_".join(parts)).lstrip("._")
    return ids


def _shown(path: Path) -> str:
    """Relative to the working directory where below it, else absolute. Links below it are not followed."""
    if not path.is_absolute() and ".." not in path.parts:
        return path.as_posix()
    whole, here = path.resolve(), Path.cwd()
    return (whole.relative_to(here) if whole.is_relative_to(here) else whole).as_posix()
