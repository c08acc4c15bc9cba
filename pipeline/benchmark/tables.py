"""The benchmark's figures as a small table for `dvc plots`, and its headline for `dvc metrics`.

Pure functions of the results, so that they say what those say. Columns of latency.csv, of the leading engine: batch,
and for teacher and student each <model>_ms_p50, _p90, _p99, <model>_tiles_per_s.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.base.figures import NotMeasured
from pipeline.base.files import write_csv
from pipeline.benchmark.results import MODELS, Benchmark

Cells = dict[str, float | None]


def write_benchmark_plots(found: Benchmark, folder: Path) -> None:
    """Write latency.csv, of the leading engine."""
    rows: dict[int, Cells] = {}
    for model in MODELS:
        for row in found.lead(model).rows:
            line = rows.setdefault(row.batch, {"batch": row.batch})
            line |= {f"{model}_ms_{p}": getattr(row, f"latency_ms_{p}") for p in ("p50", "p90", "p99")}
            line[f"{model}_tiles_per_s"] = row.tiles_per_s
    write_csv(folder / "latency.csv", list(next(iter(rows.values()))), rows.values())


def benchmark_headline(found: Benchmark) -> dict[str, float]:
    """Sizes, costs, best throughputs and the smallest batch's latency, flat, for `dvc metrics`; what is null left out.

    The student's throughput over the teacher's has its interval's ends beside it, speedup_low and speedup_high; of
    other engines it is speedup_<engine>_<precision>_<device>, and so are its ends. <model>_whole_slides_per_hour has
    reading included, <model>_slides_per_hour has not.
    """
    pairs = (*_models(found), *_ratios(found), *_whole(found))
    return {key: value for key, value in pairs if value is not None}


def _models(found: Benchmark) -> Iterator[tuple[str, float | None]]:
    for model in MODELS:
        costs, lead = found.models[model], found.lead(model)
        yield from (
            (f"{model}_params", costs.params),
            (f"{model}_gmacs", costs.gmacs),
            (f"{model}_tiles_per_s", lead.best.tiles_per_s),
            (f"{model}_slides_per_hour", found.slides_per_hour(lead)),
            (f"{model}_memory_mb", lead.last.memory_mb),
            (f"{model}_joules_per_tile", lead.best.joules_per_tile),
            (f"{model}_latency_ms", lead.rows[0].latency_ms_p50),
        )


def _ratios(found: Benchmark) -> Iterator[tuple[str, float | None]]:
    for i, speedup in enumerate(found.speedups):
        name = "_".join(("speedup", *(speedup.place if i else ())))
        span = speedup.ratio.span
        yield name, speedup.ratio.value
        yield f"{name}_low", span.low if span else None
        yield f"{name}_high", span.high if span else None


def _whole(found: Benchmark) -> Iterator[tuple[str, float | None]]:
    if isinstance(found.whole, NotMeasured):
        return
    for model, whole in found.whole.items():
        span = whole.an_hour.span
        yield f"{model}_whole_slides_per_hour", whole.an_hour.value
        yield f"{model}_whole_slides_per_hour_low", span.low if span else None
        yield f"{model}_whole_slides_per_hour_high", span.high if span else None
        yield f"{model}_reading_share", whole.reading_share
