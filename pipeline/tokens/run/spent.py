"""Where a run's time goes, by name; several threads add to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.Lock()


class Spent(dict[str, float]):
    """Seconds by name."""

    def add(self, name: str, seconds: float) -> None:
        with _LOCK:
            self[name] = self.get(name, 0.0) + seconds

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Adds what the block takes by the clock on the wall."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - began)


class Marks:
    """The ends of phases on a device: by its own events on a GPU, which never waits for them, else by the clock."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[str, float | torch.cuda.Event]] = [("", self._now())]

    def end(self, name: str) -> None:
        """The phase `name` ends here, at this place of the current stream."""
        self._marks.append((name, self._now()))

    def settle(self, spent: Spent) -> None:
        """Add the phases to `spent`; on a GPU the last one must be over."""
        for (_, before), (name, after) in zip(self._marks, self._marks[1:], strict=False):
            if isinstance(before, torch.cuda.Event):
                assert isinstance(after, torch.cuda.Event)
                spent.add(name, before.elapsed_time(after) / 1000)
            else:
                assert isinstance(after, float)
                spent.add(name, after - before)

    def _now(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event
