"""slides.csv: one row a slide, read strictly and written so that it reads back the same.

Columns: `path` (required), `slide_id`, `mpp`, `label`, `split`, `patient`, `mask` (a tissue mask made elsewhere),
`coords` (a tiling made elsewhere) and `features` (a teacher's answers to just those tiles, made elsewhere). Lines that
start with `#` are comments. Cells are parted by commas, or by semicolons or tabs where the header is, as spreadsheets
in much of Europe write them. A problem of one row refuses that row; a problem of the header or the file refuses the
table.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.base.errors import ParamsError, SlideRefused, TableError
from pipeline.base.manifest import Refusal
from pipeline.params.base import MISSING
from pipeline.remote.address import checked, is_url
from pipeline.slides.cells import alike, class_of, one_spelling, present, rows_of, without_index
from pipeline.slides.ids import DEMO, Names, default_id

COLUMNS = ("path", "slide_id", "mpp", "label", "split", "patient", "mask", "coords", "features")
RARE = ("mask", "coords", "features")
"""Columns that are written only where a row has a value in them."""
VERBATIM = ("path", "slide_id")
"""Columns of which any text is a value."""
MPP_RANGE = (0.05, 10.0)
"""um per pixel that a light microscope's slide can have; what lies outside is a mistake in the metadata."""
Mpp = float | Literal["objective"] | None
"""What to believe of a slide that does not say: um per pixel, its objective power, or nothing (refuse it)."""
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
    features: str | None = None

    @property
    def demo(self) -> int | None:
        """N of `demo:N`, else None."""
        match = DEMO.fullmatch(self.path)
        return int(match[1]) if match else None


@dataclass(frozen=True)
class Table:
    """A slide table: its usable rows and the refused ones, both in the table's order, and remarks for its author."""

    rows: list[Row]
    refused: list[Refusal]
    remarks: list[str]


def sane_mpp(mpp: float) -> bool:
    """Whether a resolution, in um per pixel, can be that of a slide."""
    return math.isfinite(mpp) and MPP_RANGE[0] <= mpp <= MPP_RANGE[1]


def read_table(path: Path | str, missing: Iterable[str] = MISSING) -> Table:
    """Read slides.csv; `missing` are the texts that mean no label. Raises `TableError`."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        fix = "write it, or let `histill scan DIR > slides.csv` write it"
        raise TableError("slide table not found", where=str(path), fix=fix) from None
    except OSError as error:
        fix = "is its disk mounted, and may you read it?"
        raise TableError(f"it cannot be read: {error.strerror}", where=str(path), fix=fix) from None
    except UnicodeDecodeError:
        raise TableError("not UTF-8 text", where=str(path), fix="save it as CSV (UTF-8)") from None
    return parse_table(text, path, missing)


def parse_table(text: str, path: Path, missing: Iterable[str] = MISSING) -> Table:
    """As `read_table`, from the table's text; `path` is for messages."""
    if "\0" in text:
        raise TableError("not a text file", where=str(path), fix="save it as CSV (UTF-8)")
    try:
        lines, cells = rows_of(text, comments=True)
    except TableError as error:
        raise TableError(error.what, where=f"{path}, {error.where}", fix=error.fix) from None
    if not cells:
        raise TableError("the table lists no slide", where=str(path), fix="add rows: a path each")
    header, *body = without_index(cells)
    columns = _header(header, path)
    rows: list[Row] = []
    refused: list[Refusal] = []
    given_ids: dict[str, int] = {}
    for line, row_cells in zip(lines[1:], body, strict=True):
        try:
            rows.append(_row(columns, row_cells, line, given_ids, missing))
        except SlideRefused as error:
            refused.append(Refusal.of(error.where, error))
    if not rows and not refused:
        raise TableError("the table lists no slide", where=str(path), fix="add rows: a path each")
    rows, remarks = _with_ids(rows, given_ids, refused)
    patients, said = one_spelling([row.patient for row in rows])
    rows = [dataclasses.replace(row, patient=patient) for row, patient in zip(rows, patients, strict=True)]
    labels = [row.label for row in rows]
    said = [*(f"patients {line}" for line in said), *(f"labels {line}" for line in alike(labels, "slides.missing"))]
    return Table(rows, refused, [*said, *remarks])


def _with_ids(rows: list[Row], given_ids: Mapping[str, int], refused: list[Refusal]) -> tuple[list[Row], list[str]]:
    """The rows, those without an id called by their paths, by a number too where another row is called so.

    A path that is there twice without an id is a copied line: the second is refused.
    """
    found, remarks, names, first_line = list[Row](), list[str](), Names(given_ids), dict[str, int]()
    for row in rows:
        if row.slide_id:
            found.append(row)
            continue
        name = default_id(row.path)
        if row.path in first_line:
            fix = "drop the row: a slide is listed once"
            refused.append(Refusal(id=name, reason=f"line {first_line[row.path]} has the same path", fix=fix))
            continue
        first_line[row.path] = row.line
        slide_id = names.free(name)
        found.append(dataclasses.replace(row, slide_id=slide_id))
        if slide_id != name:
            remarks.append(f"{row.path} is called {slide_id}: another slide is called {name}")
    return found, remarks


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


def _row(header: list[str], cells: list[str], line: int, given_ids: dict[str, int], missing: Iterable[str]) -> Row:
    """Check one row, whose id is empty where the table gives none; ids that it gives are noted with their lines.

    Raises `SlideRefused` whose `where` is the slide's id, or its line where it has none.
    """
    at = f"line-{line}"
    if any(cell.strip() for cell in cells[len(header) :]):
        fix = "put quotes around a cell that holds a comma"
        raise SlideRefused(f"line {line} has {len(cells)} cells, the header {len(header)}", where=at, fix=fix)
    raw = dict(zip(header, cells, strict=False))
    # A file may be called `NA`; of the rest it is no value.
    value = {name: cell or None if name in VERBATIM else present(cell) for name, cell in raw.items()}
    path, given = value.get("path"), value.get("slide_id")
    if path is None:
        raise SlideRefused(f"line {line} has no path", where=given or at, fix="give the slide's file, or drop the row")
    slide_id = given or default_id(path)
    if is_url(path):
        try:
            checked(path)
        except ParamsError as error:
            # Before a name is made of it, or a message repeats it.
            raise SlideRefused(f"line {line}: {error.what}", where=given or at, fix=error.fix) from None
    if not _SAFE_ID.fullmatch(slide_id):
        fix = "slide_id: up to 128 letters, digits, '.', '_' and '-', not starting with '.'"
        raise SlideRefused(f"id {slide_id!r} would leave the store's folder", where=slide_id or at, fix=fix)
    if given and given_ids.setdefault(given, line) != line:
        fix = "give each row its own slide_id"
        raise SlideRefused(f"duplicate id: line {given_ids[given]} has it too", where=slide_id, fix=fix)
    split = value.get("split")
    return Row(
        line=line,
        path=path,
        slide_id=given or "",
        mpp=_mpp(value.get("mpp"), slide_id),
        label=class_of(raw.get("label", ""), missing),
        split=split.lower() if split else None,
        patient=value.get("patient"),
        mask=value.get("mask"),
        coords=value.get("coords"),
        features=value.get("features"),
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
