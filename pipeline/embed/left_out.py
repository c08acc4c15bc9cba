"""What no file is written of, by name: left_out.csv in the output folder, kept up by every process that writes there.

A slide that is made later is taken out of it; where nothing is left out, there is no such file.
"""

from __future__ import annotations

import csv
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.base.files import write_csv
from pipeline.embed.asked import LeftOut

FILE = "left_out.csv"
COLUMNS = ("slide", "reason", "what to do")


def leave_out(out: Path, slide: LeftOut) -> None:
    """Add a slide, in place of what was said of it before."""
    row = {"slide": slide.slide, "reason": slide.reason, "what to do": slide.fix}
    with _alone(out):
        _write(out, [*(each for each in _rows(out) if each["slide"] != slide.slide), row])


def take_back(out: Path, slide: str) -> None:
    """Of a slide that is made now."""
    if (out / FILE).exists():
        with _alone(out):
            _write(out, [row for row in _rows(out) if row["slide"] != slide])


def _rows(out: Path) -> list[dict[str, str]]:
    if not (out / FILE).exists():
        return []
    with open(out / FILE, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write(out: Path, rows: list[dict[str, str]]) -> None:
    if rows:
        rows.sort(key=lambda row: row["slide"])
        write_csv(out / FILE, COLUMNS, rows)
    else:
        (out / FILE).unlink(missing_ok=True)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """The only one, of all threads and processes, that changes the file: by a lock on its folder."""
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
