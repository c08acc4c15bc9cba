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


def state_of(pid: int) -> str:
    """A process's state as the kernel has it, "T" where it is stopped; "" where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_alive(pid: int) -> bool:
    """Whether it runs or could: one that has ended and that nobody has asked after yet does not."""
    return state_of(pid) not in ("", "X", "Z")


def until(ready: Callable[[], object], every_s: float = 0.2) -> None:
    """Wait for it, for as long as no machine takes."""
    deadline = time.monotonic() + 600
    while not ready():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(every_s)
