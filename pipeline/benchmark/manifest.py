"""artifacts/benchmark.json as a type."""

from __future__ import annotations

from typing import Any, Literal

from pipeline.base.manifest import Item, Manifest


class BenchmarkManifest(Manifest[Item, dict[str, Any]]):
    """It has no items; its `summary` is described in docs/artifacts.md."""

    stage: Literal["benchmark"] = "benchmark"
    version: int = 2
