"""Processes that a test has others start: which there are, and waiting for them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path


def processes(**environment: str) -> list[int]:
    """Those that were started with it, by their numbers."""
    wanted, found = {f"{name}={value}".encode() for name, value in environment.items()}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                found.append(int(folder.name))
    return found


def until(ready: Callable[[], object], seconds: float = 600) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.2)
