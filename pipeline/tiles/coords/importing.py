"""A slide table whose `coords` column names a tiling made elsewhere, so that it can be distilled from as it is."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import TableError
from pipeline.slides.table import Row, default_id

SUFFIXES = frozenset({".h5", ".hdf5"})
_TRIDENT_ENDING = "_patches"


def with_coords(rows: Sequence[Row], found: Path, base: Path) -> tuple[list[Row], list[str]]:
    """The rows with `coords` filled from the files at or below `found`; and what did not match, in words.

    A file belongs to the row whose slide_id, or whose slide's stem, is its own name without TRIDENT's `_patches`. Paths
    are relative to `base` (the table's folder) where below it. A row without a file keeps what it has. Raises
    `TableError` where there is no file, or none that belongs to a row.
    """
    files = [found] if found.is_file() else sorted(path for path in found.rglob("*") if path.suffix.lower() in SUFFIXES)
    # A finished job has features of the same slides beside its patches.
    files = [path for path in files if path.parent.name == "patches"] or files
    if not files:
        raise TableError("no .h5 file here", where=str(found), fix="TRIDENT's or CLAM's job folder, or its patches/")
    named: dict[str, Path] = {}
    for path in files:
        name = path.stem.removesuffix(_TRIDENT_ENDING)
        if name in named:
            what = f"two tilings of one slide: {named[name]} and {path}"
            raise TableError(what, where=str(found), fix="give the folder of one of them")
        named[name] = path
    filled, used = [], set()
    for row in rows:
        names = [name for name in (row.slide_id, Path(row.path).stem, default_id(row.path)) if name in named]
        filled.append(dataclasses.replace(row, coords=_shown(named[names[0]], base)) if names else row)
        used.update(names[:1])
    if not used:
        what = f"none of its {len(files)} files is named after a slide of the table"
        fix = f"file {files[0].name} needs a row with slide_id {files[0].stem.removesuffix(_TRIDENT_ENDING)}"
        raise TableError(what, where=str(found), fix=fix)
    unmatched = [f"no slide for {path}" for name, path in named.items() if name not in used]
    without = [f"no coordinates for {row.slide_id}: its own grid is laid" for row in filled if row.coords is None]
    return filled, unmatched + without


def _shown(path: Path, base: Path) -> str:
    whole, below = path.resolve(), base.resolve()
    if whole.is_relative_to(below):
        return whole.relative_to(below).as_posix()
    return Path(os.path.relpath(whole, below)).as_posix() if not path.is_absolute() else whole.as_posix()
