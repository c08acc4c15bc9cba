"""A small CSV file in the output folder that every process which writes there keeps up: one row a slide."""

from __future__ import annotations

import csv
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.files import write_csv


@dataclass(frozen=True)
class SharedTable:
    """The file and its columns, the first of which tells the rows apart; it is not there while it has no row."""

    path: Path
    columns: Sequence[str]

    def put(self, row: Mapping[str, object]) -> None:
        """Add a row, in place of the one that has the same first cell."""
        key = self.columns[0]
        told = {name: str(row.get(name, "")) for name in self.columns}
        with self._alone():
            self._write([*(each for each in self._rows() if each[key] != told[key]), told])

    def drop(self, key: str) -> None:
        """Without the row that has this first cell."""
        if self.path.exists():
            with self._alone():
                self._write([row for row in self._rows() if row[self.columns[0]] != key])

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _write(self, rows: list[dict[str, str]]) -> None:
        if rows:
            rows.sort(key=lambda row: row[self.columns[0]])
            write_csv(self.path, self.columns, rows)
        else:
            self.path.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The only one, of all threads and processes, that changes the file: by a lock on its folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
