"""The GPU and its driver, and the limits in force: cores, open files, maps, shared memory."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.files import free_bytes, human
from pipeline.base.limits import cpu_quota, maps_allowed, usable_cores
from pipeline.machine.finding import Finding, costs

DRIVER = Path("/proc/driver/nvidia/version")
FILES = 1024
"""Descriptors above which none is missed; with 64 the stages still run."""
FEWEST_MAPS = 65_530
SHARED_NBYTES = 64 << 20
"""What containers have by default."""


def hardware(teachers: Sequence[str]) -> list[Finding]:
    """Of this machine, and what of it this process may use; `teachers` are those that it has to run."""
    return [_gpu(teachers), _cores(), _files(), _maps(), _shared_memory()]


def _gpu(teachers: Sequence[str]) -> Finding:
    try:
        import torch

        seen = torch.cuda.is_available()
    except Exception:
        # The line on torch says what is wrong with it.
        return Finding(what="gpu", found="not asked: torch does not work")
    driver = _driver()
    if seen:
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Finding(what="gpu", found=f"{names}; driver {driver or '?'}, CUDA {torch.version.cuda}")
    if driver is not None:
        found = f"driver {driver}, but torch {torch.__version__} sees no GPU"
        mend = "a torch of this driver's CUDA (pytorch.org), or a newer driver; is CUDA_VISIBLE_DEVICES empty?"
        return costs("gpu", found, "everything runs on the CPU", mend)
    found = "none: everything runs on the CPU"
    if all(teacher == "demo" for teacher in teachers):
        return Finding(what="gpu", found=found)
    cost = "a ViT-L teacher answers about one tile a second and core (stage `tokens`; `histill plan` measures it)"
    return costs("gpu", found, cost, "run `dvc repro tokens` on a machine with a GPU and share its store")


def _driver() -> str | None:
    """NVIDIA's, as its kernel module says; None where there is none."""
    try:
        words = DRIVER.read_text().splitlines()[0].split()
    except (OSError, IndexError):
        return None
    return next((word for word in words if word[:1].isdigit()), "?")


def _cores() -> Finding:
    usable, all_of_them, quota = usable_cores(), os.cpu_count() or 1, cpu_quota()
    why = f": a quota of {quota:g} cores" if quota is not None and quota < all_of_them else ": its affinity"
    found = f"{usable} of {all_of_them}" + (why if usable < all_of_them else "")
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told) < usable:
        cost = f"PyTorch computes with {told} of {usable} cores"
        return costs("cores", f"{found}; OMP_NUM_THREADS={told}", cost, "unset OMP_NUM_THREADS")
    return Finding(what="cores", found=found)


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FILES:
        most = "no limit" if soft == resource.RLIM_INFINITY else str(soft)
        return Finding(what="open files", found=most)
    room = hard == resource.RLIM_INFINITY or hard >= FILES
    mend = f"ulimit -n {FILES}" if room else f"have the hard limit, {hard}, raised (limits.conf, or the batch system)"
    return costs("open files", str(soft), "fewer slides are worked on at a time", mend)


def _maps() -> Finding:
    allowed = 4 * maps_allowed()
    if allowed >= FEWEST_MAPS - 4:
        return Finding(what="maps", found=f"{allowed}")
    mend = f"sysctl vm.max_map_count={FEWEST_MAPS}"
    return costs("maps", str(allowed), "token files are mapped again and again while a student trains", mend)


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        cost = "training on several GPUs (NCCL) may end with a bus error"
        return costs("shared memory", "there is no /dev/shm", cost, "mount one, or docker run --ipc=host")
    free = free_bytes(folder)
    if free < SHARED_NBYTES or not os.access(folder, os.W_OK):
        mend = "docker run --shm-size 1g"
        return costs(
            "shared memory", f"{human(free)} free", "training on several GPUs (NCCL) may end with a bus error", mend
        )
    return Finding(what="shared memory", found=f"{human(free)} free")
