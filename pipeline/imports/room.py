"""Memory that a thread uses again for each slide.

Twenty megabytes taken anew for each slide and given back cost more than what is done in them: the kernel clears every
page, and makes all threads forget where they were.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray


class Room(threading.local):
    """Of each thread its own; what it gave serves until it is asked again."""

    def __init__(self) -> None:
        self._half = np.empty(0, np.float16)

    def half(self, n: int, width: int) -> NDArray[np.float16]:
        """(n, width), whatever was in it."""
        if len(self._half) < n * width:
            self._half = np.empty(n * width, np.float16)
        return self._half[: n * width].reshape(n, width)
