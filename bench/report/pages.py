"""How long the report of a thousand slides takes to build, and how large it is.

The slides of the finished run in this folder (the demo's, say), repeated under new names until there are so many, go
through the report's own code: their manifests, and their pictures from the store, of which each slide's are made anew
for every repetition. Not covered: reading a thousand slides' pictures from a cold disk, and the students of other
experiments. Timed in parts: `pictures` of the page, `side_files`, and what is left.

Run: python -m bench.report.pages [--slides N] [--out DIR]; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from bench.clock import spent
from bench.printing import finish, show
from bench.scratch import scratch
from pipeline.base.items import SlidesManifest, StudentManifest, TilesManifest, TokensManifest
from pipeline.base.limits import usable_cores
from pipeline.base.manifest import Item
from pipeline.base.store import Store
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.params.load import load_params
from pipeline.params.report import ReportParams
from pipeline.params.whole import WholeParams
from pipeline.report import page
from pipeline.report.across.pareto import pareto
from pipeline.report.across.students import WORKSPACE, Known, Study
from pipeline.report.pictures import Stored, slide_pictures, spread
from pipeline.report.slides_page import build_slides_page

OneItem = TypeVar("OneItem", bound=Item)


def main() -> None:
    """Read the command line, build, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=1000, help="slides of the report")
    parser.add_argument("--out", type=Path, help="folder to keep the report in; else it is thrown away")
    args = parser.parse_args()
    params = load_params(WholeParams)
    made = Path("artifacts")
    manifests: page.Manifests = {
        "slides": SlidesManifest.load(made / "slides.json"),
        "tiles": TilesManifest.load(made / "tiles.json"),
        "tokens": TokensManifest.load(made / "tokens.json"),
        "student": StudentManifest.load(made / "student.json"),
        "evaluate": EvaluateManifest.load(made / "evaluate.json"),
        "benchmark": BenchmarkManifest.load(made / "benchmark.json"),
    }
    with scratch() as folder:
        found = measure(manifests, params.report, Store.find(params.store.root), args.slides, args.out or folder)
    show("A report of many slides", ("", "found"), list(found.items()))
    finish(found)


def measure(manifests: page.Manifests, params: ReportParams, store: Store, slides: int, out: Path) -> dict[str, Any]:
    """Build report.html and its side files in `out`; seconds and bytes."""
    many = repeated(manifests, slides)
    tiles = many["tiles"]
    aside = out / "apart" / "slides.html"
    pictures = spent(lambda: slide_pictures(Stored(tiles, store), spread(tiles.items, params.max_slides)))
    side_files = spent(
        lambda: build_slides_page(page.environment(), params.title, many["slides"], Stored(tiles, store), aside)
    )
    alone = pareto(Known((Study(WORKSPACE, many["evaluate"], many["benchmark"], many["student"]),), {}))
    report = out / "report.html"
    whole, again = (spent(lambda: page.build_report(many, params, store, alone, report)) for _ in range(2))
    side = [path.stat().st_size for path in (out / "slides").iterdir()]
    return {
        "slides": len(tiles.items),
        "cores": usable_cores(),
        "seconds": round(whole.wall_s, 2),
        "cpu_seconds": round(whole.cpu_s, 2),
        "seconds_again": round(again.wall_s, 2),
        "cpu_seconds_again": round(again.cpu_s, 2),
        "cpu_seconds_pictures": round(pictures.cpu_s, 2),
        "cpu_seconds_side_files": round(side_files.cpu_s, 2),
        "report_bytes": (out / "report.html").stat().st_size,
        "slides_page_bytes": (out / "slides.html").stat().st_size,
        "side_files": len(side),
        "side_bytes": sum(side),
    }


def repeated(manifests: page.Manifests, slides: int) -> page.Manifests:
    """The run with its slides repeated, each time under new ids, until there are `slides`."""
    order = [item.id for item in manifests["tiles"].items]
    names = {(order[k % len(order)], k // len(order)) for k in range(slides)}
    rounds = -(-slides // len(order))

    def more(items: Sequence[OneItem]) -> dict[str, tuple[OneItem, ...]]:
        again = tuple(
            item.model_copy(update={"id": f"{item.id}-{turn:04}"})
            for turn in range(rounds)
            for item in items
            if (item.id, turn) in names
        )
        return {"items": again}

    slides_json, tiles, tokens = manifests["slides"], manifests["tiles"], manifests["tokens"]
    evaluate = manifests["evaluate"]
    return {
        "slides": slides_json.model_copy(update=more(slides_json.items)),
        "tiles": tiles.model_copy(update=more(tiles.items)),
        "tokens": tokens.model_copy(update=more(tokens.items)),
        "student": manifests["student"],
        "evaluate": evaluate.model_copy(update=more(evaluate.items)),
        "benchmark": manifests["benchmark"],
    }


if __name__ == "__main__":
    main()
