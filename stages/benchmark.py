"""Stage `benchmark`: parameters, GMACs, latency and throughput of teacher and student on this machine, and slides an
hour with reading.

In:  artifacts/tokens.json (which teacher), models/student/, artifacts/tiles.json and slides.csv (which slides are
     read, and where they are), params `benchmark`.
Out: artifacts/benchmark.json, plots/latency.csv.
Run: dvc repro benchmark, or python -m stages.benchmark
"""

from pathlib import Path

import typer

from pipeline.base.items import TilesManifest, TokensManifest
from pipeline.base.store import Store
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.benchmark.stage import Subjects, benchmark_models
from pipeline.params.benchmark import BenchmarkParams
from pipeline.params.site import SiteParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.params.tokens import TokensParams
from pipeline.slides.sources import sources
from stages.command import Debug, Wait, execute, load


class Params(SiteParams):
    """What of params.yaml the stage takes."""

    slides: SlidesParams = SlidesParams()
    tiles: TilesParams = TilesParams()
    tokens: TokensParams = TokensParams()
    benchmark: BenchmarkParams = BenchmarkParams()


def run(params: Params, store: Store) -> BenchmarkManifest:
    """Time both models, in turn, in one run."""
    tiled = {item.id for item in load(TilesManifest).items}
    located = sources(Path(params.slides.table), store, params.slides)
    slides = [source for name, source in located.items() if name in tiled]
    subjects = Subjects(
        Path("models/student"), params.tokens, store, params.slides.demo_px, slides=slides, tiles=params.tiles
    )
    return benchmark_models(load(TokensManifest), subjects, params.benchmark)


def main(debug: Debug = False, wait: Wait = None) -> None:
    """Parameters, GMACs, latency and throughput of teacher and student on this machine."""
    execute("benchmark", Params, run, debug, wait)


if __name__ == "__main__":
    typer.run(main)
