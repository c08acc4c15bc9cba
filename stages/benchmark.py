"""Stage `benchmark`: parameters, GMACs, latency and throughput of teacher and student on this machine.

In:  artifacts/tokens.json (which teacher), models/student/, params `benchmark`.
Out: artifacts/benchmark.json, plots/latency.csv.
Run: dvc repro benchmark, or python -m stages.benchmark
"""

from __future__ import annotations

from pathlib import Path

import typer

from pipeline.base.items import TokensManifest
from pipeline.base.store import Store
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.benchmark.stage import Subjects, benchmark_models
from pipeline.params.benchmark import BenchmarkParams
from pipeline.params.site import SiteParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tokens import TokensParams
from stages.command import Debug, execute, load


class Params(SiteParams):
    """What of params.yaml the stage takes."""

    slides: SlidesParams = SlidesParams()
    tokens: TokensParams = TokensParams()
    benchmark: BenchmarkParams = BenchmarkParams()


def run(params: Params, store: Store) -> BenchmarkManifest:
    """Time both models, in turn, in one run."""
    subjects = Subjects(Path("models/student"), params.tokens, store, params.slides.demo_px)
    return benchmark_models(load(TokensManifest), subjects, params.benchmark)


def main(debug: Debug = False) -> None:
    """Parameters, GMACs, latency and throughput of teacher and student on this machine."""
    execute("benchmark", Params, run, debug)


if __name__ == "__main__":
    typer.run(main)
