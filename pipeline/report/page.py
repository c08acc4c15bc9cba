"""One self-contained HTML page from all manifests: no network, no scripts, no torch. All slides: slides_page.py.

The manifests say what is shown (sections.py); pictures come from the tiles item of each slide in the store, and from
plots/maps. The page is templates/report.html with templates/report.css inlined; everything that a table or a slide
could have put there is escaped by Jinja.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, TypedDict

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pipeline.base.errors import ManifestError
from pipeline.base.files import write_atomic
from pipeline.base.items import SlidesManifest, StudentManifest, TilesManifest, TokensManifest
from pipeline.base.manifest import Item, Manifest, Refusal
from pipeline.base.progress import console
from pipeline.base.store import Store
from pipeline.base.types import Json
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.measures.split_figures import MODELS, PROBES, PROTOCOLS
from pipeline.params.report import ReportParams
from pipeline.report import sections, tile_counts, verdict
from pipeline.report.across.pareto import Pareto
from pipeline.report.details import ACCURACY_COLUMNS
from pipeline.report.pictures import Stored, map_pictures, slide_pictures, spread
from pipeline.report.slides_page import build_slides_page
from pipeline.report.tradeoff import tradeoff

STAGES: tuple[Literal["slides", "tiles", "tokens", "student", "evaluate", "benchmark"], ...] = (
    "slides",
    "tiles",
    "tokens",
    "student",
    "evaluate",
    "benchmark",
)

MOST_LISTED = 100
"""Of a list in a recipe, as the page shows it; the manifest has all."""


class Manifests(TypedDict):
    """One manifest of each of `STAGES`."""

    slides: SlidesManifest
    tiles: TilesManifest
    tokens: TokensManifest
    student: StudentManifest
    evaluate: EvaluateManifest
    benchmark: BenchmarkManifest


class ReportManifest(Manifest[Item, dict[str, int]]):
    """artifacts/report.json: the page's bytes, and the slides that it shows."""

    stage: Literal["report"] = "report"
    version: int = 1


def build_report(
    manifests: Manifests,
    params: ReportParams,
    store: Store,
    compared: Pareto,
    out: Path,
    plots: Path = Path("plots"),
) -> ReportManifest:
    """Write the page to `out`, atomically, and slides.html beside it; the manifest says what the page shows.

    `manifests` holds one of each of `STAGES`; `compared` has this student among all others; of `plots` training.csv
    (columns step, loss, cls, patch; `cls@NAME` of further teachers) and maps/ are shown where they are there. Raises
    `ManifestError` where a manifest is missing, of another version or of another student than the rest. A picture that
    the store does not hold, or not as it was committed, is left out of the page.
    """
    for stage in STAGES:
        if stage not in manifests:
            raise ManifestError(f"the report needs the manifest of {stage}", fix=f"dvc repro {stage}")
        manifests[stage].require_form(manifests[stage], f"artifacts/{stage}.json")
    require_one_student(manifests)
    stored = Stored(manifests["tiles"], store)
    page = render("report.html", **context(manifests, params, stored, plots, compared))
    write_atomic(out, page)
    slides_page = out.with_name("slides.html")
    build_slides_page(environment(), params.title, manifests["slides"], stored, slides_page)
    if told := stored.told():
        console.print(f"report: {told}", soft_wrap=True, style="yellow")
    facts = {"nbytes": len(page), "slides": min(len(manifests["tiles"].items), params.max_slides)}
    return ReportManifest(refused=tuple(all_refused(manifests)), summary=facts)


def require_one_student(manifests: Manifests) -> None:
    """Raise `ManifestError` where a stage was run alone, so that figures of two students would stand on one page."""
    weights = next((i.digest[:32] for i in manifests["student"].items if i.id == "model.safetensors"), None)
    found = {"evaluate": manifests["evaluate"].recipe, "benchmark": manifests["benchmark"].recipe}
    for stage, recipe in found.items():
        its = recipe.get("student")
        if None not in (weights, its) and its != weights:
            what = "its figures are of another student than artifacts/student.json"
            raise ManifestError(what, where=f"artifacts/{stage}.json", fix=f"dvc repro {stage}")


def render(template: str, **shown: object) -> bytes:
    """A page of the templates folder with the style sheet in it."""
    pages = environment()
    css = Markup(pages.get_template("report.css").render())
    return pages.get_template(template).render(css=css, **shown).encode()


@cache
def environment() -> Environment:
    """Jinja with the pages' filters, and what it has compiled; whatever is not a template's own text is escaped."""
    made = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "digits": verdict.digits,
        "score": "{:z.3f}".format,
        "signed": "{:+.3f}".format,
        "count": "{:,}".format,
        "quantity": verdict.quantity,
        "percent": verdict.percent,
        "span": lambda ends: f"{ends.low:z.3f}{'–' if ends.low >= 0 else ' to '}{ends.high:z.3f}",
        "percent_span": lambda ends: f"{100 * ends.low:.0f}–{100 * ends.high:.0f}",
        "pretty": lambda value: json.dumps(_shortened(value), indent=1, sort_keys=True),
    }
    return made


def _shortened(value: Json) -> Json:
    """A recipe with the beginning of its long lists: a student of ten thousand slides names each, a megabyte in all."""
    if isinstance(value, Mapping):
        return {name: _shortened(part) for name, part in value.items()}
    if not isinstance(value, list | tuple):
        return value
    rest = [f"… and {len(value) - MOST_LISTED:,} more"] if len(value) > MOST_LISTED else []
    return [*map(_shortened, value[:MOST_LISTED]), *rest]


def context(
    manifests: Manifests, params: ReportParams, stored: Stored, plots: Path, compared: Pareto
) -> dict[str, object]:
    """All that the template shows."""
    evaluate, tiles, benchmark = manifests["evaluate"], manifests["tiles"], manifests["benchmark"].summary
    summary, shown = evaluate.summary, spread(tiles.items, params.max_slides)
    widths = sections.width_rows(summary)
    return {
        "title": params.title,
        "teacher": summary.teacher,
        "student": summary.student,
        "is_demo": summary.teacher == "demo",
        "primary": summary.primary,
        "figures": verdict.figures(summary, benchmark),
        "not_measured": verdict.not_measured(summary, benchmark),
        "cautions": verdict.cautions(summary, benchmark),
        "slides": shown,
        "catalogue": {item.id: item for item in manifests["slides"].items},
        "pictures": slide_pictures(stored, shown),
        "splits": tile_counts.split_counts(tiles),
        "dropped": tile_counts.dropped(tiles),
        "refused": all_refused(manifests),
        "training": sections.training(plots / "training.csv", summary.teacher),
        "evaluate": summary,
        "gaps": summary.gaps(),
        "trained_on": summary.trained_on(),
        "benchmark": benchmark,
        "speedups": sections.speedups(benchmark),
        "maps": map_pictures(summary.maps, plots / "maps"),
        "probes": sections.probe_sections(summary),
        "teacher_rows": sections.teacher_rows(summary),
        "probe_names": PROBES,
        "protocol": PROTOCOLS[summary.protocol],
        "episode_rows": sections.episode_rows(summary),
        "standards": sections.standards(summary),
        "models": MODELS,
        "accuracy_columns": ACCURACY_COLUMNS,
        "slide_fidelity": sections.slide_fidelity(evaluate),
        "figures_of": sections.figures_of(summary),
        "label_rows": sections.label_rows(summary),
        "width_rows": widths,
        "width_plot": sections.width_plot(widths),
        "full_width": manifests["tokens"].summary.width,
        "robustness_plot": sections.robustness_plot(summary),
        "tradeoff": tradeoff(summary, benchmark, compared),
        "left_out": compared.left_out,
        "manifests": {stage: manifests[stage] for stage in STAGES},
    }


def all_refused(manifests: Manifests) -> list[Refusal]:
    """Every refusal once, sorted by slide (later stages carry the earlier ones along)."""
    found = {(r.id, r.reason): r for stage in STAGES for r in manifests[stage].refused}
    return [found[key] for key in sorted(found)]
