"""What a cell of somebody's table means: one rule for slide tables, labelled tables and HDF5 files.

R, pandas and spreadsheets write the same thing in several ways: `NA`, `nan`, `None` and nothing are no value; `0`,
`0.0` and "0" are one class; `3`, `3.0` and `003` are one patient, whoever wrote the zeros; a column without a name
holds row numbers.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence

from pipeline.base.errors import TableError
from pipeline.params.base import MISSING

_INDEX = re.compile(r"(unnamed: \d+(\.\d+)?|\.\.\.\d+|row\.?names?)?")
_WHOLE = re.compile(r"([+-]?\d+)\.0+")
_NUMBER = re.compile(r"\d+(\.0+)?")


def rows_of(text: str, *, comments: bool = False) -> tuple[list[int], list[list[str]]]:
    """Of every row that is not blank the line in the text and the cells, the header first.

    Cells are parted by commas, or by semicolons or tabs where the header's are. `comments`: lines that start with `#`
    are none. Raises `TableError` whose `where` is the line.
    """
    lines = list(io.StringIO(text, newline=""))
    if comments:
        # A comment leaves a blank line behind, so that line numbers stay those of the file.
        lines = ["\n" if line.startswith("#") else line for line in lines]
    reader = csv.reader(lines, delimiter=_delimiter(lines), strict=True)
    numbers, rows = list[int](), list[list[str]]()
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                numbers.append(reader.line_num)
                rows.append([cell.strip() for cell in cells])
    except csv.Error as error:
        fix = "mend the quotes on that line"
        raise TableError(f"not valid CSV: {error}", where=f"line {reader.line_num}", fix=fix) from None
    return numbers, rows


def present(text: str | None, missing: Iterable[str] = MISSING) -> str | None:
    """The text without the space around it; None where it means no value."""
    text = (text or "").strip()
    return None if not text or text.lower() in {word.lower() for word in missing} else text


def class_of(value: object, missing: Iterable[str] = MISSING) -> str | None:
    """The class that a value names, as text: the same for 1, 1.0, True, b"1" and "1.0"; None where it names none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    text = present(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value), missing)
    whole = None if text is None else _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def one_spelling(names: Sequence[str | None]) -> tuple[list[str | None], list[str]]:
    """The names, those that are one number in its first spelling, and a line on each that has several.

    Looking at `3`, `3.0` and `003` as one patient can at worst hold a patient back; as three it could leak one.
    """
    spellings: dict[str, dict[str, None]] = {}
    for name in names:
        if name is not None:
            spellings.setdefault(_number(name), {})[name] = None
    first = {number: next(iter(own)) for number, own in spellings.items()}
    said = [
        f"{', '.join(map(repr, own))} are looked at as one: {first[number]!r}"
        for number, own in spellings.items()
        if len(own) > 1
    ]
    return [None if name is None else first[_number(name)] for name in names], said


def without_index(rows: list[list[str]]) -> list[list[str]]:
    """The rows of a table, the header first, without the row numbers of pandas and R.

    Those are a column without a name (or `Unnamed: 0`, `rownames`), or, as R's write.table leaves it, one cell more in
    every row than in the header, counting from 1.
    """
    if len(rows) < 2:
        return rows
    header, body = rows[0], rows[1:]
    if all(len(row) == len(header) + 1 and row[0] == str(n) for n, row in enumerate(body, 1)):
        return [header, *(row[1:] for row in body)]
    last = max((i for i, name in enumerate(header) if name.strip()), default=-1)
    index = {i for i, name in enumerate(header[:last]) if _INDEX.fullmatch(name.strip().lower())}
    return [[cell for i, cell in enumerate(row) if i not in index] for row in rows]


def _delimiter(lines: Sequence[str]) -> str:
    """A comma, or what parts the header's cells where that is a semicolon or a tab."""
    header = next((line for line in lines if line.strip()), "")
    return next((mark for mark in ";\t" if mark in header and "," not in header), ",")


def _number(name: str) -> str:
    return str(int(float(name))) if _NUMBER.fullmatch(name) and len(name) < 16 else name
