"""The machine that figures were taken on, described so that they can be judged; never its name or its user."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path

from pipeline.base.limits import usable_cores
from pipeline.benchmark.results import Machine

PACKAGES = ("histill", "torch", "timm", "numpy", "scikit-learn", "onnxruntime", "onnxruntime-gpu", "openvino")


def describe() -> Machine:
    """The machine at hand."""
    import torch

    return Machine(
        cpu=_cpu_model(),
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions=_versions(),
    )


def gpu_uuid() -> str | None:
    """What NVIDIA's driver calls the GPU that torch takes, to ask after it alone; for no file."""
    import torch

    if not torch.cuda.is_available():
        return None
    return f"GPU-{str(torch.cuda.get_device_properties().uuid).removeprefix('GPU-')}"


def load() -> float | None:
    """Processes that want a core, on average over the last minute: what else kept the machine busy."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _cpu_model() -> str:
    """The processor's name as the system gives it, which Linux keeps in /proc."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
