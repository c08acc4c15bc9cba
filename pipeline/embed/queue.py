"""Which slide a worker is to open or to help with next: shared by the threads of a process, and by locks with others.

At most as many slides are open as there are workers, so that memory is bounded whatever the job. A slide that another
process is at is looked at again at the end: it is then finished, or its maker has died and it is begun anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from threading import Condition

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import SlideRefused
from pipeline.cluster.refusals import about_slide
from pipeline.embed.asked import Asked
from pipeline.embed.slide import Slide

_POLL_S = 0.5


class State(Enum):
    """What is found of a slide that nobody here has begun."""

    FINISHED = "finished"
    ELSEWHERE = "elsewhere"


Begin = Callable[[Asked], Slide | State]
"""Open a slide and claim its files, or say why not. Raises `SlideRefused` and, for the whole job, `EmbedError`."""


@dataclass
class Portion:
    """Some rows of an open slide."""

    slide: Slide
    rows: NDArray[np.int64]


@dataclass
class Queue:
    """The slides of a job; `begin` opens one, `refuse` is told of those that cannot be, `finished` of those that are.

    `stopped` ends it for all workers: `stop` after an error that is not of one slide.
    """

    waiting: deque[Asked]
    begin: Begin
    refuse: Callable[[Asked, SlideRefused], None]
    finished: Callable[[Asked], None]
    workers: int
    stopped: bool = False
    _open: list[Slide] = field(default_factory=list)
    _elsewhere: deque[Asked] = field(default_factory=deque)
    _opening: int = 0
    _changed: Condition = field(default_factory=Condition)

    def next(self) -> Portion | None:
        """Rows of a slide that is open, else of the next one; None when there is nothing left. Waits where others may
        still open one."""
        while not self.stopped:
            with self._changed:
                for slide in self._open:
                    rows = slide.take()
                    if rows is not None:
                        return Portion(slide, rows)
                asked = self._pop()
                if asked is None:
                    if not self._opening and not self._elsewhere:
                        return None
                    self._changed.wait(_POLL_S)
                    continue
                self._opening += 1
            found: Slide | State = State.FINISHED
            try:
                found = self._begun(asked)
            finally:
                with self._changed:
                    self._opening -= 1
                    if isinstance(found, Slide):
                        self._open.append(found)
                    self._changed.notify_all()
                    if found is State.ELSEWHERE:
                        self._elsewhere.append(asked)
                        if not self.waiting:
                            self._changed.wait(_POLL_S)
        return None

    def close(self, slide: Slide) -> bool:
        """It has nothing more to give; whether the caller is the one who closed it."""
        with self._changed:
            if slide not in self._open:
                return False
            self._open.remove(slide)
            self._changed.notify_all()
            return True

    def stop(self) -> None:
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def left(self) -> list[Slide]:
        """Those that are open."""
        return list(self._open)

    def _pop(self) -> Asked | None:
        """The next slide to look at, where one may be opened."""
        if len(self._open) + self._opening >= self.workers:
            return None
        if self.waiting:
            return self.waiting.popleft()
        # One look a poll: those are being made by another process.
        return self._elsewhere.popleft() if self._elsewhere and not self._opening else None

    def _begun(self, asked: Asked) -> Slide | State:
        try:
            found = self.begin(asked)
        except Exception as raised:
            error = about_slide(raised)
            if not isinstance(error, SlideRefused):
                raise
            self.refuse(asked, error)
            return State.FINISHED
        if found is State.FINISHED:
            self.finished(asked)
        return found
