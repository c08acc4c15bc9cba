"""Stage `report`: everything on one page.

In:  all manifests, the pictures in the store, plots/{training,pareto}.csv and plots/maps/, params `report`.
Out: reports/report.html, self-contained; reports/slides.html, reports/model_card.md,
     plots/{pareto,splits,dropped}.csv, artifacts/report.json.
Run: dvc repro report, or python -m stages.report
"""

from pathlib import Path

import typer

from pipeline.base.files import dvc_root
from pipeline.base.items import SlidesManifest, StudentManifest, TilesManifest, TokensManifest
from pipeline.base.progress import console
from pipeline.base.store import Store
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.params.report import ReportParams
from pipeline.params.site import SiteParams
from pipeline.report.across.pareto import pareto, write_pareto
from pipeline.report.across.students import WORKSPACE, Study, gather
from pipeline.report.card_figures import write_card
from pipeline.report.page import Manifests, ReportManifest, build_report
from pipeline.report.tile_counts import write_tile_counts
from stages.command import Debug, Wait, execute, load


class Params(SiteParams):
    """What of params.yaml the stage takes."""

    report: ReportParams = ReportParams()


def run(params: Params, store: Store) -> ReportManifest:
    """Compare with the students of all experiments, and write the page and the model card."""
    manifests: Manifests = {
        "slides": load(SlidesManifest),
        "tiles": load(TilesManifest),
        "tokens": load(TokensManifest),
        "student": load(StudentManifest),
        "evaluate": load(EvaluateManifest),
        "benchmark": load(BenchmarkManifest),
    }
    workspace = Study(WORKSPACE, manifests["evaluate"], manifests["benchmark"], manifests["student"])
    compared = pareto(gather(dvc_root(), workspace))
    write_pareto(compared, Path("plots/pareto.csv"))
    write_tile_counts(manifests["tiles"], Path("plots"))
    write_card(manifests["student"], manifests["evaluate"], Path("reports/model_card.md"))
    out = Path("reports/report.html")
    return build_report(manifests, params.report, store, compared, out)


def main(debug: Debug = False, wait: Wait = None) -> None:
    """Everything on one page."""
    execute("report", Params, run, debug, wait)
    console.print("report: open reports/report.html; every slide is on reports/slides.html")


if __name__ == "__main__":
    typer.run(main)
