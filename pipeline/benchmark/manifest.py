"""artifacts/benchmark.json as a type."""

from __future__ import annotations

from typing import Literal

from pipeline.base.manifest import Item, Manifest
from pipeline.benchmark.results import Benchmark
from pipeline.benchmark.tables import benchmark_headline


class BenchmarkManifest(Manifest[Item, Benchmark]):
    """It has no items; its recipe is `teacher`, `student` (the digest of its weights) and the params."""

    stage: Literal["benchmark"] = "benchmark"
    version: int = 4

    def numbers(self) -> dict[str, float]:
        """The headline, for `dvc metrics`."""
        return benchmark_headline(self.summary)
