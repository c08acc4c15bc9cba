"""What a cell of somebody's table means: one rule for slide tables, labelled tables and HDF5 files.

R, pandas and spreadsheets write the same thing in several ways: `NA`, `nan`, `None` and nothing are no value; `0`,
`0.0` and "0" are one class, and so are `TRUE` and `True`; `3`, `3.0` and `003` are one patient, whoever wrote the
zeros; a column without a name holds row numbers.
"""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

from pipeline.base.errors import TableError, some_lines
from pipeline.params.base import MISSING

NOTHING = (
    *MISSING,
    *("-", "--", "\u2013", "\u2014", "?", ".", "n.a.", "nat", "missing", "unknown"),
    *("#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!"),
)
"""Texts, in any case, that are no scale, split or patient; `-` and its like may be the name of a class."""
SAID, SUCH = 5, "more such"
"""Lines of one kind that are said of a table."""
_UNNAMED = re.compile(r"(unnamed: \d+(\.\d+|_level_\d+)?|\.\.\.\d+|row\.?names?)?")
_COUNTING = re.compile(r"index|idx|level_\d+|v1|x(\.\d+)?")
"""Names that pandas and R give a column of row numbers once it has been read and written again."""
_WHOLE = re.compile(r"([+-]?)(\d+)(\.0+)?(e\+?\d{1,2})?", re.IGNORECASE)
_TRUTH = {"true": "1", "false": "0"}
_UNSEEN = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
"""Characters that nobody sees."""
_SEP = re.compile(r"\"?sep=(.)\"?\s*")
_SPACED = re.compile(r"(\"[^\"]*\"|\S+)( +(\"[^\"]*\"|\S+))+")


def rows_of(text: str, *, comments: bool = False) -> tuple[list[int], list[list[str]]]:
    """Of every row that is not blank the line in the text and the cells, the header first.

    Cells are parted by commas, or by semicolons, tabs, bars or spaces where the header's are, or by what Excel's own
    line `sep=;` says. `comments`: lines that start with `#` are none. Raises `TableError` whose `where` is the line.
    """
    lines = list(io.StringIO(text, newline=""))
    if comments:
        # A comment leaves a blank line behind, so that line numbers stay those of the file.
        lines = ["\n" if line.startswith("#") else line for line in lines]
    mark = _delimiter(lines)
    reader = csv.reader(lines, delimiter=mark, strict=True, skipinitialspace=mark == " ")
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


def present(text: str | None, missing: Iterable[str] = NOTHING) -> str | None:
    """The text as it is seen, without the space around it; None where it means no value."""
    text = unicodedata.normalize("NFC", (text or "").translate(_UNSEEN)).strip()
    return None if not text or text.lower() in {word.lower() for word in missing} else text


def class_of(value: object, missing: Iterable[str] = MISSING) -> str | None:
    """The class that a value names, as text; None where it names none.

    The same for 1, 1.0, True, b"1", "1.0", "1e+00" and "TRUE", as h5py, pandas, R and spreadsheets have it.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    text = present(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value), missing)
    return None if text is None else _TRUTH.get(text.lower(), _as_whole(text))


def one_spelling(names: Sequence[str | None]) -> tuple[list[str | None], list[str]]:
    """The names, those that are one number in its first spelling; a line on each of these, and on those nearly alike.

    Looking at `3`, `3.0` and `003` as one patient can at worst hold a patient back; as three it could leak one. Names
    that differ in case or space alone stay two: there are ids in which case counts.
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
    two = [f"{own} are looked at as two: write them alike if they are one" for own in _nearly_one(first.values())]
    said = [*some_lines(said, SAID, SUCH), *some_lines(two, SAID, SUCH)]
    return [None if name is None else first[_number(name)] for name in names], said


def alike(classes: Iterable[str | None], key: str | None) -> list[str]:
    """A line on classes that differ in case, space or zeros alone, and on one whose name often means none.

    They stay as they are: `-` is a class where `+` is. `key` is the parameter that says which texts are no class, if
    one does.
    """
    names = sorted({name for name in classes if name is not None})
    near = [f"{own} are classes of their own: write them alike if they are one" for own in _nearly_one(names)]
    said = some_lines(near, SAID, SUCH)
    if key is not None:
        said += [f"{name!r} is a class: name it in {key} if it means none" for name in names if name.lower() in NOTHING]
    return said


def without_index(rows: list[list[str]]) -> list[list[str]]:
    """The rows of a table, the header first, without the row numbers of pandas and R.

    Those are a column without a name (or `Unnamed: 0`, `rownames`), one called `index` or `X` that holds just numbers,
    or, as R's write.table leaves it, a number more in every row than the header has cells.
    """
    if len(rows) < 2:
        return rows
    header, body = rows[0], rows[1:]
    if all(len(row) == len(header) + 1 for row in body) and _counts(row[0] for row in body):
        return [header, *(row[1:] for row in body)]
    last = max((i for i, name in enumerate(header) if name.strip()), default=-1)
    index = {
        i
        for i, name in enumerate(header)
        if _is_index(name.strip().lower(), [row[i : i + 1] for row in body], i < last)
    }
    return [[cell for i, cell in enumerate(row) if i not in index] for row in rows]


def _is_index(name: str, cells: Sequence[Sequence[str]], before_others: bool) -> bool:
    """Whether a column is one of row numbers, or one that a spreadsheet had and that is empty."""
    if _UNNAMED.fullmatch(name):
        return before_others or (name != "" and not any(cell and cell[0] for cell in cells))
    return _COUNTING.fullmatch(name) is not None and _counts(cell[0] if cell else "" for cell in cells)


def _counts(cells: Iterable[str]) -> bool:
    """Whether these are whole numbers, each another."""
    found = list(cells)
    return len(set(found)) == len(found) and all(cell.isdecimal() for cell in found)


def _delimiter(lines: list[str]) -> str:
    """A comma, or what parts the header's cells where that is another mark; Excel's line that says so is blanked."""
    at = next((i for i, line in enumerate(lines) if line.strip()), None)
    if at is None:
        return ","
    if said := _SEP.fullmatch(lines[at]):
        lines[at] = "\n"
        return said[1]
    header = lines[at].strip()
    if "," in header:
        return ","
    return next((mark for mark in ";\t|" if mark in header), " " if _SPACED.fullmatch(header) else ",")


def _as_whole(text: str) -> str:
    """`3.0`, `+3` and `3e+00` as `3`; zeros that somebody has put before a number stay."""
    found = _WHOLE.fullmatch(text)
    if found is None:
        return text
    digits = str(int(float(found[2] + found[4]))) if found[4] else found[2]
    return f"-{digits}" if found[1] == "-" and digits.strip("0") else digits


def _number(name: str) -> str:
    """A whole number in one spelling, whatever zeros are before or behind it; any other name as it is."""
    whole = _as_whole(name)
    return (whole.lstrip("0") or "0") if whole.isdecimal() else whole


def _nearly_one(names: Iterable[str]) -> list[str]:
    """Names that are one but for case, space or the zeros of a number, those of each together in words."""
    alike: dict[str, list[str]] = {}
    for name in names:
        bare = unicodedata.normalize("NFKC", _number(name)).casefold()
        alike.setdefault("".join(bare.split()), []).append(name)
    return [", ".join(map(repr, own)) for own in alike.values() if len(own) > 1]
