"""The benchmark's figures as a small table for `dvc plots`, and its headline for `dvc metrics`.

Pure functions of a manifest, so that they say what it says. Columns of latency.csv, of the leading engine: batch, and
for teacher and student each <model>_ms_p50, _p90, _p99, <model>_tiles_per_s.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base.files import write_csv
from pipeline.benchmark.manifest import BenchmarkManifest


def write_benchmark_plots(manifest: BenchmarkManifest, folder: Path) -> None:
    """Write latency.csv, of the leading engine."""
    columns = {f"ms_{p}": f"latency_ms_{p}" for p in ("p50", "p90", "p99")} | {"tiles_per_s": "tiles_per_s"}
    rows: dict[int, dict[str, Any]] = {}
    for model in ("teacher", "student"):
        for row in manifest.summary[model]["rows"]:
            line = rows.setdefault(row["batch"], {"batch": row["batch"]})
            line |= {f"{model}_{column}": row[key] for column, key in columns.items()}
    write_csv(folder / "latency.csv", list(next(iter(rows.values()))), rows.values())


def benchmark_headline(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes, costs, best throughputs and the smallest batch's latency, flat, for `dvc metrics`; what is null left out.

    The student's throughput over the teacher's has its interval's ends beside it, speedup_low and speedup_high; of
    other engines it is speedup_<engine>_<precision>_<device>, and so are its ends.
    """
    keys = ("params", "gmacs", "tiles_per_s", "slides_per_hour", "memory_mb", "joules_per_tile")
    headline = {f"{name}_{key}": summary[name][key] for name in ("teacher", "student") for key in keys}
    headline |= {f"{name}_latency_ms": summary[name]["rows"][0]["latency_ms_p50"] for name in ("teacher", "student")}
    ratios = {"speedup": {"value": summary["speedup"], "interval": summary["speedup_interval"]}}
    ratios |= {f"speedup_{where}": ratio for where, ratio in summary["speedups"].items()}
    for name, ratio in ratios.items():
        low, high = ratio["interval"] or (None, None)
        headline |= {name: ratio["value"], f"{name}_low": low, f"{name}_high": high}
    return {key: value for key, value in headline.items() if value is not None}
