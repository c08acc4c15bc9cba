"""A data set as a table of image paths and labels, read as strictly as the slide table, and as leniently.

Columns are `path`, `label` and optionally `split`, `group` (patient or slide), in any case; cells are parted as in the
slide table. Paths are relative to the table. Where it names no split, whole groups are held out (single images where
there are none).
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from pipeline.base.errors import TableError
from pipeline.params.evaluate import DatasetParams
from pipeline.sets.listing import Picture, problem
from pipeline.slides.split import resolve_splits
from pipeline.slides.table import Row, delimiter

COLUMNS = ("path", "label", "split", "group")
TEST_FRACTION = 0.2
"""Share of groups held out where the table has no split."""

Cells = dict[str, str | None]


def list_table(path: Path, params: DatasetParams) -> dict[str, list[Picture]]:
    """The pictures of each split. Raises `EvaluationError`, which names the line."""
    cells = _cells(path, params)
    line_of: dict[str, int] = {}
    for line, row in cells:
        name = row["path"]
        if name is None or not (path.parent / name).is_file():
            raise problem(params, f"line {line}: file not found: {name}", "paths are relative to the CSV file")
        # `a.png` and `./a.png` are one file.
        file = os.path.normpath(path.parent / name)
        if line_of.setdefault(file, line) != line:
            raise problem(params, f"lists {name} twice (lines {line_of[file]} and {line})", "one row an image")
    rows = [
        Row(line, str(row["path"]), str(row["path"]), split=row["split"], patient=row["group"]) for line, row in cells
    ]
    try:
        split = resolve_splits(rows, TEST_FRACTION)
    except TableError as error:
        raise problem(params, f"{error.where}: {error.what}", error.fix) from None
    found: dict[str, list[Picture]] = {}
    for _, row in cells:
        name = str(row["path"])
        found.setdefault(split[name], []).append(Picture(name, path.parent / name, row["label"], row["group"]))
    return found


def _cells(path: Path, params: DatasetParams) -> list[tuple[int, Cells]]:
    """(line in the file, its cells by column) of every row that is not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise problem(
            params, f"is not UTF-8: {error.reason} at byte {error.start}", "save the table as UTF-8"
        ) from None
    if "\0" in text:
        raise problem(params, "is not a text file", "save the table as CSV (UTF-8)")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(text.splitlines()), strict=True)
    header: list[str] = []
    found: list[tuple[int, Cells]] = []
    try:
        for cells in reader:
            line, values = reader.line_num, [cell.strip() for cell in cells]
            if not any(values):
                continue
            if not header:
                header = _header(values, params)
                continue
            if any(values[len(header) :]):
                what = f"line {line} has more cells than the {len(header)} columns"
                raise problem(params, what, "put a cell with a comma between double quotes")
            row: Cells = dict.fromkeys(COLUMNS) | {
                name: value or None for name, value in zip(header, values, strict=False)
            }
            row["split"] = row["split"] and row["split"].lower()
            found.append((line, row))
    except csv.Error as error:
        raise problem(
            params, f"line {reader.line_num}: not valid CSV: {error}", "mend the quotes on that line"
        ) from None
    if not found:
        raise problem(params, f"{path.name} lists no image", "a header, then a row an image: path, label")
    return found


def _header(values: list[str], params: DatasetParams) -> list[str]:
    header = [value.lower() for value in values]
    while not header[-1]:
        header.pop()  # spreadsheets write the empty columns that were once used
    if not {"path", "label"} <= set(header) <= set(COLUMNS) or len(set(header)) < len(header):
        what = f"has the columns {', '.join(sorted(header))}"
        raise problem(params, what, "path, label and optionally split, group; no others, each once")
    return header
