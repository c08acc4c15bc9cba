"""A data set as a table of image paths and labels, read as strictly as the slide table, and as leniently.

Columns are `path`, `label` and optionally `split`, `group` (patient or slide), in any case; cells are parted as in the
slide table. Paths are relative to the table. Where it names no split, whole groups are held out (single images where
there are none).
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.base.errors import TableError
from pipeline.base.names import spellings
from pipeline.base.progress import console
from pipeline.params.evaluate import DatasetParams
from pipeline.sets.listing import Picture, problem
from pipeline.slides.cells import class_of, one_spelling, present, rows_of, without_index
from pipeline.slides.split import resolve_splits
from pipeline.slides.table import Row

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
        found_as = [] if name is None else [one for one in spellings(name) if (path.parent / one).is_file()]
        if name is None or not found_as:
            slashed = (path.parent / str(name).replace("\\", "/")).is_file()
            fix = "write / for \\ in its paths" if slashed else "paths are relative to the CSV file"
            raise problem(params, f"line {line}: file not found: {name}", fix)
        row["path"] = name = found_as[0]
        # `a.png` and `./a.png` are one file.
        file = os.path.normpath(path.parent / name)
        if line_of.setdefault(file, line) != line:
            raise problem(params, f"lists {name} twice (lines {line_of[file]} and {line})", "one row an image")
    groups, said = one_spelling([row["group"] for _, row in cells])
    for remark in said:
        console.print(f"evaluate.datasets: {params.name}: groups {remark}", soft_wrap=True)
    rows = [
        Row(line, str(row["path"]), str(row["path"]), split=row["split"], patient=group)
        for (line, row), group in zip(cells, groups, strict=True)
    ]
    try:
        split = resolve_splits(rows, TEST_FRACTION)
    except TableError as error:
        raise problem(params, f"{error.where}: {error.what}", error.fix) from None
    found: dict[str, list[Picture]] = {}
    for (_, row), group in zip(cells, groups, strict=True):
        name = str(row["path"])
        found.setdefault(split[name], []).append(Picture(name, path.parent / name, row["label"], group))
    return found


def _cells(path: Path, params: DatasetParams) -> list[tuple[int, Cells]]:
    """(line in the file, its cells by column) of every row that is not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"is not UTF-8: {error.reason} at byte {error.start}"
        raise problem(params, what, "save the table as UTF-8") from None
    if "\0" in text:
        raise problem(params, "is not a text file", "save the table as CSV (UTF-8)")
    try:
        lines, rows = rows_of(text)
    except TableError as error:
        raise problem(params, f"{error.where}: {error.what}", error.fix) from None
    if len(rows) < 2:
        raise problem(params, f"{path.name} lists no image", "a header, then a row an image: path, label")
    first, *body = without_index(rows)
    header = _header(first, params)
    return [(line, _row(header, cells, line, params)) for line, cells in zip(lines[1:], body, strict=True)]


def _row(header: list[str], cells: list[str], line: int, params: DatasetParams) -> Cells:
    if any(cells[len(header) :]):
        what = f"line {line} has more cells than the {len(header)} columns"
        raise problem(params, what, "put a cell with a comma between double quotes")
    raw = dict.fromkeys(COLUMNS, "") | dict(zip(header, cells, strict=False))
    split = present(raw["split"])
    return {
        "path": raw["path"] or None,
        "label": class_of(raw["label"], params.missing),
        "split": split and split.lower(),
        "group": present(raw["group"]),
    }


def _header(values: list[str], params: DatasetParams) -> list[str]:
    header = [value.lower() for value in values]
    while not header[-1]:
        header.pop()  # spreadsheets write the empty columns that were once used
    if not {"path", "label"} <= set(header) <= set(COLUMNS) or len(set(header)) < len(header):
        what = f"has the columns {', '.join(sorted(header))}"
        raise problem(params, what, "path, label and optionally split, group; no others, each once")
    return header
