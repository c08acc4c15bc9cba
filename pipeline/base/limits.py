"""The limits that are in force where a process runs: cores that it may use, files that it may have open or mapped.

A batch system gives a job some of a machine's cores (`sched_setaffinity`, a cpuset, a quota of CPU time); as many
threads as the machine has cores would then wait for one another. The limits of all control groups above the process's
own count too, which `dask.system` does not look at.
"""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path, PurePosixPath

_GROUPS, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")

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


def usable_cores(groups: Path = _GROUPS, mount: Path = _MOUNT) -> int:
    """Cores that this process may keep busy, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(groups, mount)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(groups: Path = _GROUPS, mount: Path = _MOUNT) -> float | None:
    """Cores' worth of time that the process's control groups allow it (versions 1 and 2); None without a limit."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return None
    found: list[float] = []
    for line in lines:
        number, controllers, name = line.split(":", 2)
        if number == "0" and not controllers:
            roots = [mount, mount / "unified"]
        elif "cpu" in controllers.split(","):
            roots = [mount / controllers, mount / "cpu"]
        else:
            continue
        # A container sees its own group as the root of the mount, whatever the host calls it.
        own = PurePosixPath(name.lstrip("/"))
        found += [limit for root in roots for part in (own, *own.parents) if (limit := _limit(root / part)) is not None]
    return min(found, default=None)


def bound_threads(groups: Path = _GROUPS, mount: Path = _MOUNT) -> None:
    """Hold the thread pools of libraries to a quota of CPU time, unless OMP_NUM_THREADS says how many there are.

    Torch, OpenBLAS and Arrow see an affinity by themselves, and no quota; they read this when they are loaded.
    """
    if cpu_quota(groups, mount) is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores(groups, mount)))


def _limit(group: Path) -> float | None:
    """The group's own limit in cores: cpu.max of version 2, cpu.cfs_* of version 1; None where it has none."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        cores = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None
