"""A student's folder, copied whole to where an export goes: files that name it and weights never part."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path

from pipeline.base.errors import ExportError, StudentError
from pipeline.base.files import open_to, umask
from pipeline.student.shipped import CARD_FILE, Shipped


def copy_student(shipped: Shipped, out: Path) -> bool:
    """Copy the exported student to the folder `out`, which appears whole or not at all; False where it was there.

    Raises `ExportError` where `out` is something else, or another student.
    """
    if out.exists():
        require_same(shipped, out)
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        copy_files(shipped, fresh)
        os.rename(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return True


def copy_files(shipped: Shipped, fresh: Path) -> None:
    """Copy what the student's folder holds into `fresh`, an empty folder of this process's own."""
    shutil.copytree(
        shipped.folder, fresh, dirs_exist_ok=True, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns(".*")
    )
    mask = umask()
    for path in (fresh, *fresh.rglob("*")):
        open_to(mask, path)


def card_of(shipped: Shipped) -> str:
    """The text of its model card. Raises `ExportError` where it has none."""
    path = shipped.folder / CARD_FILE
    if not path.is_file():
        raise ExportError("the student has no model card", where=str(path), fix="export it again: dvc repro student")
    return path.read_text(encoding="utf-8")


def require_same(shipped: Shipped, out: Path) -> None:
    """Raises `ExportError` where the folder `out` is something else, or another student."""
    fix = "give another --out, or remove it"
    try:
        there = Shipped.of_folder(out)
    except StudentError:
        raise ExportError("something else is there", where=str(out), fix=fix) from None
    if there != dataclasses.replace(shipped, folder=out):
        raise ExportError(f"another student is there: {there.name}", where=str(out), fix=fix)
