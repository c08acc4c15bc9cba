"""Whether a folder that a table names is one of tiles: slides in it would each become one tile, or be lost."""

from __future__ import annotations

from pathlib import Path

from pipeline.base.errors import SlideRefused
from pipeline.slides.far_folder import SLIDE_SUFFIXES
from pipeline.slides.files import MIRAX
from pipeline.slides.images import IMAGE_SUFFIXES
from pipeline.slides.read.reader import detect_vendor
from pipeline.slides.read.tiff import is_tile
from pipeline.slides.walk import a_few, walk

MIRAX_DATA = "Slidedat.ini"


def require_no_slides(folder: Path) -> None:
    """Raises `SlideRefused` where files of the folder, or of one below it, are slides, or it is MIRAX's data."""
    if (folder / MIRAX_DATA).is_file():
        fix = f"name {folder.name}{MIRAX} beside it"
        raise SlideRefused("the folder is the data of a MIRAX slide", where=folder.name, fix=fix)
    tiffs, called_so, others, images = list[Path](), list[Path](), list[Path](), 0
    for parent, _, names in walk(folder):
        for name in names:
            suffix = Path(name).suffix.lower()
            images += suffix in IMAGE_SUFFIXES
            if suffix in SLIDE_SUFFIXES & IMAGE_SUFFIXES:
                tiffs.append(parent / name)
            elif suffix not in IMAGE_SUFFIXES:
                (called_so if suffix in SLIDE_SUFFIXES else others).append(parent / name)
    # Where there are images, a file of any name beside them is a note.
    for path in [*a_few(tiffs), *a_few(called_so), *(() if images else a_few(others))]:
        vendor = detect_vendor(path) if path.is_file() else None
        if vendor is not None and not (path in tiffs and is_tile(path, vendor)):
            what = f"the folder holds slides, {path.name} among them, and a row's folder is one of tiles"
            fix = "give each slide a row of its own: histill scan lists them"
            raise SlideRefused(what, where=folder.name, fix=fix)
