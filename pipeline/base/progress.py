"""Progress on stderr: bars where a person watches, a plain line now and then where a log does."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# Slide ids and file names may hold brackets: nothing that is printed here is markup.
console = Console(stderr=True, highlight=False, markup=False)


class Advance(Protocol):
    """Called as work is done: `advance(n)`, with an optional note shown at the end of the line."""

    def __call__(self, n: float = 1, note: str = "") -> None: ...


@contextmanager
def track(label: str, total: float, unit: str, done: float = 0) -> Iterator[Advance]:
    """A bar for `total` units of work (tiles, steps, slides); yields `advance`. Nothing is shown for no work.

    `done` units were done by an earlier run: they count as work, not towards the speed.
    """
    if total <= 0:
        yield lambda n=1, note="": None
    elif sys.stderr.isatty():
        with _bar(unit) as bar:
            task = bar.add_task(label, total=total, completed=int(done), note="")
            yield lambda n=1, note="": bar.update(task, advance=n, **({"note": note} if note else {}))
    else:
        yield _Log(label, total, unit, done)


def seconds_text(seconds: float) -> str:
    """A duration for people: 70 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bar(unit: str) -> Progress:
    return Progress(
        TextColumn("{task.description:<22}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _Speed(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


class _Speed(ProgressColumn):
    """Units a second, lately."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed and speed >= 10 else f"{speed:.1f}/s" if speed else "")


class _Log:
    """A line every ten seconds and at the end: what is done, its speed, how long it took and what is left of it."""

    def __init__(self, label: str, total: float, unit: str, done: float = 0, every_s: float = 10.0) -> None:
        self.label, self.total, self.unit, self.every_s = label, total, unit, every_s
        self.start = self.last = time.monotonic()
        self.before = self.done = done

    def __call__(self, n: float = 1, note: str = "") -> None:
        self.done += n
        passed = time.monotonic() - self.start
        if self.done >= self.total or time.monotonic() - self.last >= self.every_s:
            self.last = time.monotonic()
            rate = (self.done - self.before) / max(passed, 1e-9)
            left = f", {(self.total - self.done) / rate:.0f} s left" if rate and self.done < self.total else ""
            text = f"{self.label}: {self.done:g}/{self.total:g} {self.unit}, {rate:.1f}/s, {passed:.0f} s{left} {note}"
            console.print(text.rstrip(), soft_wrap=True)
