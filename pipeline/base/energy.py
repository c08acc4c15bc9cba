"""Energy that a run takes, where a driver tells it: NVIDIA's counters of its GPUs, Intel's and AMD's of the CPU.

GPUs through NVML (`pynvml`, of the extra `energy`), whose counter runs since the driver was loaded; packages and memory
of the CPU through RAPL's files below /sys/class/powercap, which only root may read on most systems. The counters are
of whole devices: whoever else computes on them is counted too. What a counter cannot tell is not told: RAPL's starts
again after minutes of full load, and NVML's is renewed every 20 to 100 ms. On a GPU not measured.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

_POWERCAP = Path("/sys/class/powercap")
_INSIDE_OTHERS = ("core", "uncore", "psys")
"""Zones that are counted without them: parts of a package; psys, the whole platform, holds the packages themselves."""
_MOST_W = 500
"""No package draws more: within its range by that power a counter has started again once at most."""
_GPU_LEAST_S = 1.0
"""Ten of NVML's slowest renewals: over less, a neighbour's energy is counted, or none."""


class Energy:
    """Counts from its making on: all counters of the machine, or those of one device.

    `device` is cpu (RAPL alone), cuda (of the GPU with the UUID `gpu` alone) or all; `powercap` is where RAPL's files
    are.
    """

    def __init__(
        self, powercap: Path = _POWERCAP, device: Literal["all", "cpu", "cuda"] = "all", gpu: str | None = None
    ) -> None:
        zones = sorted(powercap.glob("intel-rapl:*")) if device != "cuda" else []
        self._zones = [zone for zone in zones if _rapl_uj(zone) is not None]
        self._counts_gpus, self._gpu = device != "cpu", gpu
        self._start_s = time.monotonic()
        self._start_uj = [_rapl_uj(zone) for zone in self._zones]
        self._start_mj = self._gpus_mj()

    def joules(self) -> float | None:
        """Joules so far, its counters together; None where there is none, or one cannot tell."""
        seconds, total_uj = time.monotonic() - self._start_s, 0
        for zone, start_uj in zip(self._zones, self._start_uj, strict=True):
            now_uj, range_uj = _rapl_uj(zone), _range_uj(zone)
            if now_uj is None or start_uj is None or seconds * _MOST_W * 1e6 > range_uj:
                return None
            # The counter starts again at its range.
            total_uj += now_uj - start_uj if now_uj >= start_uj else now_uj - start_uj + range_uj
        now_mj = self._gpus_mj()
        if now_mj is None or self._start_mj is None:
            return total_uj / 1e6 if self._zones else None
        return total_uj / 1e6 + (now_mj - self._start_mj) / 1e3 if seconds >= _GPU_LEAST_S else None

    def _gpus_mj(self) -> int | None:
        return _gpus_mj(self._gpu) if self._counts_gpus else None


def _rapl_uj(zone: Path) -> int | None:
    """A zone's counter in microjoules; None for one that cannot be read, or is counted in others already."""
    try:
        # The platform's zone is called psys, with a number on machines of several sockets.
        if (zone / "name").read_text().strip().startswith(_INSIDE_OTHERS):
            return None
        return int((zone / "energy_uj").read_text())
    except (OSError, ValueError):
        return None


def _range_uj(zone: Path) -> int:
    return int((zone / "max_energy_range_uj").read_text())


def _gpus_mj(gpu: str | None) -> int | None:
    """Millijoules since the driver was loaded, of the GPU with that UUID, else of all."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handles = (
            [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
            if gpu is None
            else [pynvml.nvmlDeviceGetHandleByUUID(gpu)]
        )
        return sum(int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) for handle in handles) if handles else None
    except pynvml.NVMLError:
        return None
