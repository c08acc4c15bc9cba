"""slides.csv: one row a slide, read strictly and written so that it reads back the same.

Columns: `path` (required), `slide_id`, `mpp`, `label`, `split`, `patient`, `mask` (a tissue mask made elsewhere) and
`coords` (a tiling made elsewhere). Lines that start with `#` are comments. Cells are parted by commas, or by semicolons
or tabs where the header is, as spreadsheets in much of Europe write them. A problem of one row refuses that row; a
problem of the header or the file refuses the table.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pipeline.base.errors import SlideRefused, TableError
from pipeline.base.manifest import Refusal

COLUMNS = ("path", "slide_id", "mpp", "label", "split", "patient", "mask", "coords")
RARE = ("mask", "coords")
"""Columns that are written only where a row has a value in them."""
MPP_RANGE = (0.05, 10.0)
"""um per pixel that a light microscope's slide can have; what lies outside is a mistake in the metadata."""
Mpp = float | Literal["objective"] | None
"""What to believe of a slide that does not say: um per pixel, its objective power, or nothing (refuse it)."""
DEMO = re.compile(r"demo:([1-9][0-9]{0,3})")
_SAFE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Row:
    """One usable row. `line` counts from 1 (the header); `mpp` is in um per level-0 pixel."""

    line: int
    path: str
    slide_id: str
    mpp: float | None = None
    label: str | None = None
    split: str | None = None
    patient: str | None = None
    mask: str | None = None
    coords: str | None = None

    @property
    def demo(self) -> int | None:
        """N of `demo:N`, else None."""
        match = DEMO.fullmatch(self.path)
        return int(match[1]) if match else None


def sane_mpp(mpp: float) -> bool:
    """Whether a resolution, in um per pixel, can be that of a slide."""
    return math.isfinite(mpp) and MPP_RANGE[0] <= mpp <= MPP_RANGE[1]


def default_id(path: str) -> str:
    """The file's stem (or the folder's name) with every character the store does not take replaced by `_`."""
    demo = DEMO.fullmatch(path)
    stem = f"demo-{demo[1]}" if demo else PurePosixPath(path).stem
    return re.sub(r"[^A-Za-z0-9._-]", "_", stem).lstrip(".")[:128]


def read_table(path: Path | str) -> tuple[list[Row], list[Refusal]]:
    """The table's usable rows and the refused ones, both in the table's order. Raises `TableError`."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        fix = "write it, or let `histill scan DIR > slides.csv` write it"
        raise TableError("slide table not found", where=str(path), fix=fix) from None
    except UnicodeDecodeError:
        raise TableError("not UTF-8 text", where=str(path), fix="save it as CSV (UTF-8)") from None
    return parse_table(text, path)


def parse_table(text: str, path: Path) -> tuple[list[Row], list[Refusal]]:
    """As `read_table`, from the table's text; `path` is for messages."""
    if "\0" in text:
        raise TableError("not a text file", where=str(path), fix="save it as CSV (UTF-8)")
    # A comment leaves a blank line behind, so that line numbers stay those of the file.
    lines = ["\n" if line.startswith("#") else line for line in text.splitlines(keepends=True)]
    reader = csv.reader(lines, delimiter=delimiter(lines), strict=True)
    header: list[str] | None = None
    rows: list[Row] = []
    refused: list[Refusal] = []
    first_line: dict[str, int] = {}
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _header(cells, path)
                continue
            try:
                row = _row(header, cells, reader.line_num, first_line)
            except SlideRefused as error:
                refused.append(Refusal.of(error.where, error))
                continue
            first_line[row.slide_id] = row.line
            rows.append(row)
    except csv.Error as error:
        where = f"{path}, line {reader.line_num}"
        raise TableError(f"not valid CSV: {error}", where=where, fix="mend the quotes on that line") from None
    if not rows and not refused:
        raise TableError("the table lists no slide", where=str(path), fix="add rows: a path each")
    return rows, refused


def format_table(rows: Iterable[Row]) -> str:
    """The rows as CSV text that `read_table` reads back (line numbers aside)."""
    out, rows = io.StringIO(), list(rows)
    columns = [name for name in COLUMNS if name not in RARE or any(getattr(row, name) for row in rows)]
    csv.writer(out, lineterminator="\n").writerow(columns)
    for row in rows:
        cells = [getattr(row, column) for column in columns]
        # Quotes keep a path that starts with `#` from being read as a comment.
        quoting: Literal[0, 1] = csv.QUOTE_ALL if row.path.startswith("#") else csv.QUOTE_MINIMAL
        csv.writer(out, lineterminator="\n", quoting=quoting).writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue()


def delimiter(lines: Iterable[str]) -> str:
    """A comma, or what parts the header's cells where that is a semicolon or a tab."""
    header = next((line for line in lines if line.strip()), "")
    return next((mark for mark in ";\t" if mark in header and "," not in header), ",")


def _header(cells: list[str], path: Path) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    while header and not header[-1]:
        header.pop()  # spreadsheets write the empty columns that were once used
    where = f"{path}, header"
    for name in header:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.6)
            fix = f"did you mean {near[0]!r}?" if near else f"leave it out; the columns are {', '.join(COLUMNS)}"
            raise TableError(f"unknown column {name!r}", where=where, fix=fix)
    if "path" not in header or len(set(header)) < len(header):
        fix = f"each of these at most once, and path: {', '.join(COLUMNS)}"
        raise TableError(f"columns {', '.join(header)} will not do", where=where, fix=fix)
    return header


def _row(header: list[str], cells: list[str], line: int, first_line: dict[str, int]) -> Row:
    """Check one row. Raises `SlideRefused` whose `where` is the slide's id, or its line where it has none."""
    at = f"line-{line}"
    if any(cell.strip() for cell in cells[len(header) :]):
        fix = "put quotes around a cell that holds a comma"
        raise SlideRefused(f"line {line} has {len(cells)} cells, the header {len(header)}", where=at, fix=fix)
    value = {name: cell.strip() or None for name, cell in zip(header, cells, strict=False)}
    path, given = value.get("path"), value.get("slide_id")
    if path is None:
        raise SlideRefused(f"line {line} has no path", where=given or at, fix="give the slide's file, or drop the row")
    slide_id = given or default_id(path)
    if not _SAFE_ID.fullmatch(slide_id):
        fix = "slide_id: up to 128 letters, digits, '.', '_' and '-', not starting with '.'"
        raise SlideRefused(f"id {slide_id!r} would leave the store's folder", where=slide_id or at, fix=fix)
    if slide_id in first_line:
        fix = "give each row its own slide_id"
        raise SlideRefused(f"duplicate id: line {first_line[slide_id]} has it too", where=slide_id, fix=fix)
    split = value.get("split")
    return Row(
        line=line,
        path=path,
        slide_id=slide_id,
        mpp=_mpp(value.get("mpp"), slide_id),
        label=value.get("label"),
        split=split.lower() if split else None,
        patient=value.get("patient"),
        mask=value.get("mask"),
        coords=value.get("coords"),
    )


def _mpp(text: str | None, slide_id: str) -> float | None:
    if text is None:
        return None
    fix = f"um per pixel at full resolution, {MPP_RANGE[0]} to {MPP_RANGE[1]}; 0.25 for most 40x scans, 0.5 for 20x"
    try:
        mpp = float(text.replace(",", "."))
    except ValueError:
        raise SlideRefused(f"mpp {text!r} is not a number", where=slide_id, fix=fix) from None
    if not sane_mpp(mpp):
        raise SlideRefused(f"mpp {text} is nonsense", where=slide_id, fix=fix)
    return mpp
