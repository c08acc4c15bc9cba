"""What a process of its own is given to do; of a module that imports next to nothing, which it imports first."""

from __future__ import annotations

import os
import time


def busy(seconds: float) -> None:
    """Take so much of the processor's time."""
    ends = time.process_time() + seconds
    while time.process_time() < ends:
        pass


def end_with(code: int) -> None:
    """End the process, and clean nothing up."""
    os._exit(code)
