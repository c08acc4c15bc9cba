"""Energy that a run takes, where a driver tells it: NVIDIA's counters of every GPU, Intel's and AMD's of the CPU.

GPUs through NVML (`pynvml`, of the extra `energy`), whose counter runs since the driver was loaded; packages and memory
of the CPU through RAPL's files below /sys/class/powercap, which only root may read on most systems. The counters are
of whole devices: whoever else computes on them is counted too. On a GPU not measured.
"""

from __future__ import annotations

from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")


class Energy:
    """Counts from its making on; `powercap` is where RAPL's files are."""

    def __init__(self, powercap: Path = _POWERCAP) -> None:
        self._zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if _rapl_uj(zone) is not None]
        self._start_uj = [_rapl_uj(zone) for zone in self._zones]
        self._start_mj = _gpus_mj()

    def joules(self) -> float | None:
        """Joules so far, all counters together; None where there is none."""
        total_uj = 0
        for zone, start_uj in zip(self._zones, self._start_uj, strict=True):
            now_uj = _rapl_uj(zone)
            if now_uj is None or start_uj is None:
                return None
            # The counter starts again at its range.
            total_uj += now_uj - start_uj if now_uj >= start_uj else now_uj - start_uj + _range_uj(zone)
        now_mj = _gpus_mj()
        if now_mj is None or self._start_mj is None:
            return total_uj / 1e6 if self._zones else None
        return total_uj / 1e6 + (now_mj - self._start_mj) / 1e3


def _rapl_uj(zone: Path) -> int | None:
    """A zone's counter in microjoules; None for one that cannot be read, or is counted in its package's already."""
    try:
        name = (zone / "name").read_text().strip()
        if name in ("core", "uncore"):
            return None
        return int((zone / "energy_uj").read_text())
    except (OSError, ValueError):
        return None


def _range_uj(zone: Path) -> int:
    return int((zone / "max_energy_range_uj").read_text())


def _gpus_mj() -> int | None:
    """Millijoules of all GPUs since their drivers were loaded."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return sum(int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) for handle in handles) if handles else None
    except pynvml.NVMLError:
        return None
