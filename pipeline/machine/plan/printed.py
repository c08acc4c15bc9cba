"""The table of what slides take elsewhere, as cells of text."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.base.files import human
from pipeline.machine.plan.elsewhere import Line

COLUMNS = ("", "bytes", "files", "GPU-hours", "PUT, LIST", "GET, HEAD", "USD")

ASSUMED = "~"
"""Before each figure that follows from a rate: a GPU's speed or a price, which are assumed and not measured here."""


def rows(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """A row a line, under `COLUMNS`; what a line has none of is empty."""
    return [
        (
            line.what,
            "" if line.nbytes is None else human(line.nbytes),
            _count(line.files),
            "" if line.gpu_hours is None else ASSUMED + _few(line.gpu_hours),
            _count(line.puts),
            _count(line.gets),
            "" if line.usd is None else ASSUMED + _few(line.usd),
        )
        for line in lines
    ]


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _few(number: float) -> str:
    """Two digits, or the whole number where it has more."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"
