"""How many files a process may have open or mapped: the limits that are in force where it runs."""

from __future__ import annotations

import resource
from pathlib import Path

_FILES_SPARED = 64
"""Descriptors left to what opens and closes files as it goes: threads that hash, read and write."""
_MAPS_OF_LINUX = 65_530
"""`vm.max_map_count` as Linux sets it, where the setting cannot be read."""


def open_files() -> int:
    """Descriptors that this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def open_files_left() -> int:
    """Files that may be held open besides those that are open, some spared; at least 1."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 20
    return max(1, soft - open_files() - _FILES_SPARED)


def maps_allowed() -> int:
    """Files to map at a time: a quarter of the maps that a process may have, since its memory and libraries are too."""
    try:
        allowed = int(Path("/proc/sys/vm/max_map_count").read_text())
    except (OSError, ValueError):
        allowed = _MAPS_OF_LINUX
    return max(1, allowed // 4)
