"""What work on a worker says while it is on its way, through Dask's own events.

A message may come twice, late or never: it is for a bar, and results tell what counts.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask.distributed import Client

TOPIC = "histill"


def tell(message: object) -> None:
    """Say something (of what msgpack takes) to whoever waits for this work; nothing happens outside of a worker."""
    from dask.distributed import get_worker

    with contextlib.suppress(ValueError):
        get_worker().log_event(TOPIC, message)


class Told:
    """Hears what workers say, for a thread that asks now and then."""

    def __init__(self, client: Client, heard: Callable[[Any], object] | None) -> None:
        self._heard = heard
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        if heard is not None:
            # Called by the client's own thread, which must not draw.
            client.subscribe_topic(TOPIC, lambda event: self._waiting.put(event[1]))

    def pass_on(self) -> None:
        """Call with each message that has come."""
        while self._heard is not None and not self._waiting.empty():
            self._heard(self._waiting.get())
