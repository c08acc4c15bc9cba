"""How much memory this process holds and has held at most, in MB (10^6 bytes).

Linux says it of the process itself in /proc; elsewhere getrusage stands in, whose maximum on Linux would begin at what
the parent held when it started this process. Nothing but the standard library, so that asking costs no memory.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident_mb() -> float:
    """What is resident at this moment; the peak where only that is known."""
    return _of_status("VmRSS") or peak_mb()


def peak_mb() -> float:
    """The most that was ever resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _of_status("VmHWM") or (peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6)


def _of_status(field: str) -> float | None:
    """A field of /proc/self/status, which counts in KiB."""
    if not _STATUS.is_file():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None
