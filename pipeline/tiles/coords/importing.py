"""A slide table whose `coords` column names a tiling made elsewhere, so that it can be distilled from as it is."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.base.errors import TableError
from pipeline.slides.ids import default_id, stem_of
from pipeline.slides.table import Row

SUFFIXES = frozenset({".h5", ".hdf5"})
_TRIDENT_ENDING = "_patches"


def with_coords(rows: Sequence[Row], found: Path, base: Path) -> tuple[list[Row], list[str]]:
    """The rows with `coords` filled from the files at or below `found`; and what did not match, in words.

    A file belongs to the row whose slide_id, or whose slide's stem, is its own name without TRIDENT's `_patches`; one
    that fits several rows (`P1/slide.tif` and `P2/slide.tif`) is given to none. Paths are relative to `base` (the
    table's folder) where below it. A row without a file keeps what it has. Raises
    `TableError` where there is no file, or none that belongs to a row.
    """
    files = [found] if found.is_file() else sorted(path for path in found.rglob("*") if path.suffix.lower() in SUFFIXES)
    # A finished job has features of the same slides beside its patches.
    files = [path for path in files if path.parent.name == "patches"] or files
    if not files:
        raise TableError("no .h5 file here", where=str(found), fix="TRIDENT's or CLAM's job folder, or its patches/")
    named = by_name(files, found, slide_name)
    own, remarks = assigned(rows, named, found)
    filled = [
        row if path is None else dataclasses.replace(row, coords=shown_from(path, base))
        for row, path in zip(rows, own, strict=True)
    ]
    without = [f"no coordinates for {row.slide_id}: its own grid is laid" for row in filled if row.coords is None]
    return filled, [*remarks, *without]


def by_name(files: Iterable[Path], found: Path, name_of: Callable[[Path], str]) -> dict[str, Path]:
    """The files by the slides that they are named after. Raises `TableError` where two are named after one."""
    named: dict[str, Path] = {}
    for path in files:
        name = name_of(path)
        if name in named:
            what = f"two files of one slide: {named[name]} and {path}"
            raise TableError(what, where=str(found), fix="give the folder of one of them")
        named[name] = path
    return named


def assigned(rows: Sequence[Row], named: Mapping[str, Path], found: Path) -> tuple[list[Path | None], list[str]]:
    """The file of each row, None for none; and what did not match, in words.

    Raises `TableError` where no file is named after a row.
    """
    names = [_name_of(row, named) for row in rows]
    fits = Counter(name for name in names if name)
    if not fits:
        name, path = next(iter(named.items()))
        what = f"none of its {len(named)} files is named after a slide of the table"
        raise TableError(what, where=str(found), fix=f"file {path.name} needs a row with slide_id {name}")
    unmatched = [f"no slide for {path}" for name, path in named.items() if name not in fits]
    several = [
        f"{named[name]} fits {n} slides and is given to none: give the right one slide_id {name}"
        for name, n in fits.items()
        if n > 1
    ]
    return [named[name] if name and fits[name] == 1 else None for name in names], [*unmatched, *several]


def slide_name(path: Path) -> str:
    """The slide that a file of TRIDENT or CLAM is named after."""
    return stem_of(path.name).removesuffix(_TRIDENT_ENDING)


def names_of(row: Row) -> tuple[str, ...]:
    """What a file of a row's slide may be called: its id, its slide's stem, its id by default."""
    return row.slide_id, stem_of(row.path), default_id(row.path)


def _name_of(row: Row, named: Mapping[str, Path]) -> str | None:
    """The tiling's name that fits the row: the first of them."""
    return next((name for name in names_of(row) if name in named), None)


def shown_from(path: Path, base: Path) -> str:
    """The path as a table in the folder `base` names it."""
    whole, below = path.resolve(), base.resolve()
    if whole.is_relative_to(below):
        return whole.relative_to(below).as_posix()
    return Path(os.path.relpath(whole, below)).as_posix() if not path.is_absolute() else whole.as_posix()
