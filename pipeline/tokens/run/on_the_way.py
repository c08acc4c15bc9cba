"""How far workers are within their lists, for the bar of the process that waits for them.

A list is called by its first slide's key. A worker says its sums since the list began, so that a message that is lost,
or a list that another worker begins anew, moves no tile twice.
"""

from __future__ import annotations

import threading
import time
from typing import TypeAlias

from pipeline.cluster.telling import tell
from pipeline.tokens.run.collect import Progress

EVERY_S = 2.0
Said: TypeAlias = tuple[str, int, int]
"""A list; its tiles that the store had, and that were computed."""


class Saying:
    """Progress of one list on a worker: says now and then how far it is. Of several threads."""

    def __init__(self, first: str) -> None:
        self._first, self._done, self._lock = first, [0, 0], threading.Lock()
        self._last = time.monotonic()

    def __call__(self, tiles: int, slide_id: str, cached: bool) -> None:
        """`tiles` more are done."""
        with self._lock:
            self._done[not cached] += tiles
            now = time.monotonic()
            due = now - self._last >= EVERY_S
            if due:
                self._last = now
        if due:
            tell((self._first, *self._done))


class OnTheWay:
    """Hands on to `progress` what lists say, each tile once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._seen: dict[str, tuple[int, int]] = {}

    def heard(self, said: Said) -> None:
        """The sums of one list, on its way or at its end."""
        first, *sums = said
        before = self._seen.get(first, (0, 0))
        new = [max(0, now - then) for now, then in zip(sums, before, strict=True)]
        self._seen[first] = before[0] + new[0], before[1] + new[1]
        for tiles, cached in zip(new, (True, False), strict=True):
            if tiles:
                self._progress(tiles, "", cached)
