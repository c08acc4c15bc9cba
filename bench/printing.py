"""How every bench says what it found: tables for people, then one JSON object as the last line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

NOT_MEASURED = "not measured"
_PIPED_COLUMNS = 160


def console() -> Console:
    """On stdout; as wide as its terminal, and wide enough for any table where it is piped."""
    return Console(width=None if sys.stdout.isatty() else _PIPED_COLUMNS, soft_wrap=False)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; the first column to the left, the others to the right. None is "not measured"."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(NOT_MEASURED if cell is None else _text(cell) for cell in row))
    console().print(table)


def finish(figures: Mapping[str, object]) -> None:
    """Print the last line. Raises ValueError for NaN or inf, which other readers of JSON choke on."""
    print(json.dumps(figures, allow_nan=False), flush=True)


def _text(cell: object) -> str:
    """Floats to three significant digits at least."""
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
