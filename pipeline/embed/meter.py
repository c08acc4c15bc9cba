"""How far the job is: a bar for the job and one for the slide where a person watches, a line a minute elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from pipeline.base.progress import console, seconds_text

_EVERY_S = 60.0
_FEWEST = 0.02
"""Share of the job from which on the time that is left is told."""


class Meter:
    """Of a job of `total` slides that `began` then, by `time.monotonic`; any thread may call it."""

    def __init__(self, total: int, bars: Progress | None, began: float) -> None:
        self._total, self._bars, self._lock = total, bars, Lock()
        self._began, self._said = began, time.monotonic()
        self._over, self._made, self._tiles = 0, 0, 0
        self._open: dict[str, tuple[int, int]] = {}
        self._job: TaskID | None = bars.add_task("slides", total=total, note="") if bars else None
        self._slide: TaskID | None = bars.add_task("", total=None, note="", visible=False) if bars else None

    def opened(self, name: str, n: int) -> None:
        """A slide of n tiles is begun."""
        with self._lock:
            self._open[name] = (0, n)
            self._show()

    def answered(self, name: str, n: int) -> None:
        """So many more of its tiles are done."""
        with self._lock:
            done, total = self._open.get(name, (0, 0))
            self._open[name] = done + n, total
            self._tiles += n
            self._show()

    def over(self, name: str, *, made: bool = False) -> None:
        """A slide is finished, skipped, or left out."""
        with self._lock:
            self._open.pop(name, None)
            self._over += 1
            self._made += made
            self._show()

    @property
    def slides_an_hour(self) -> float:
        """Of those that were made, reading and writing included."""
        return 3600 * self._made / max(self.passed_s, 1e-9)

    @property
    def passed_s(self) -> float:
        """Since the job began."""
        return time.monotonic() - self._began

    def _left_s(self) -> float | None:
        """Seconds to go, as far as the slides so far tell."""
        begun = sum(done / max(1, n) for done, n in self._open.values())
        worked = self._made + begun
        passed, left = time.monotonic() - self._began, self._total - self._over - begun
        return passed / worked * left if worked > _FEWEST * max(1, self._total) or worked >= 1 else None

    def _show(self) -> None:
        left_s = self._left_s()
        told = f"{seconds_text(left_s)} left" if left_s is not None else ""
        if self._bars is not None and self._job is not None and self._slide is not None:
            rate = f"{self.slides_an_hour:.0f} slides/h, " if self._made else ""
            self._bars.update(self._job, completed=self._over, note=rate + told)
            name, (done, n) = next(iter(self._open.items()), ("", (0, 0)))
            self._bars.update(self._slide, description=name, completed=done, total=n, visible=bool(name), note="tiles")
        elif time.monotonic() - self._said > _EVERY_S:
            self._said = time.monotonic()
            text = f"embed: {self._over}/{self._total} slides, {self._tiles} tiles, {self.slides_an_hour:.0f} slides/h"
            console.print(f"{text}, {told}" if told else text, soft_wrap=True)


@contextmanager
def metered(total: int, began: float) -> Iterator[Meter]:
    """The meter of a job, for as long as the block lasts."""
    if not sys.stderr.isatty():
        yield Meter(total, None, began)
        return
    columns = (
        TextColumn("{task.description:<24.24}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}", markup=False),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as bars:
        yield Meter(total, bars, began)
