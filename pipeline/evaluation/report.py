"""One self-contained HTML page from all manifests: no network, no scripts, no torch. All slides: slides_page.py.

The manifests say what is shown; pictures come from the tiles item of each slide in the store. The page is
templates/report.html with templates/report.css inlined; everything that a table or a slide could have put there is
escaped by Jinja.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pipeline.errors import ManifestError
from pipeline.evaluation import charts, verdict
from pipeline.evaluation.details import detail_rows
from pipeline.evaluation.pictures import slide_pictures, spread
from pipeline.evaluation.slides_page import build_slides_page
from pipeline.evaluation.tables import MODELS, PROBES, fidelity_rows, probe_rows
from pipeline.manifest import Manifest, Refusal, write_atomic
from pipeline.params import ReportParams
from pipeline.store import Store

STAGES = ("slides", "tiles", "tokens", "student", "evaluate", "benchmark")
MOST_DOTS = 24
CURVES = {"loss": "together", "cls": "global embedding", "patch": "dense tokens", "relation": "relations"}


def build_report(
    manifests: Mapping[str, Manifest],
    params: ReportParams,
    store: Store,
    out: Path,
    training_csv: Path | None = None,
) -> Manifest:
    """Write the page to `out`, atomically, and slides.html beside it; the manifest says what the page shows.

    `manifests` holds one of each of `STAGES`; `training_csv` has the columns step, loss, cls, patch. Raises
    `ManifestError` where a manifest is missing. A picture that the store does not hold is left out of the page.
    """
    missing = [stage for stage in STAGES if stage not in manifests]
    if missing:
        raise ManifestError(f"the report needs the manifest of {missing[0]}", fix=f"dvc repro {missing[0]}")
    environment = Environment(
        loader=PackageLoader("pipeline.evaluation"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "digits": verdict.digits,
        "score": "{:.3f}".format,
        "quantity": verdict.quantity,
        "percent": verdict.percent,
        "span": lambda ends: f"{ends[0]:.2f}–{ends[1]:.2f}",
        "percent_span": lambda ends: f"{100 * ends[0]:.0f}–{100 * ends[1]:.0f}",
        "pretty": lambda value: json.dumps(value, indent=1, sort_keys=True),
    }
    css = environment.get_template("report.css").render()
    page = environment.get_template("report.html").render(
        css=Markup(css), **context(manifests, params, store, training_csv)
    )
    write_atomic(out, page.encode())
    slides_page = out.with_name("slides.html")
    build_slides_page(environment, params.title, manifests["slides"], manifests["tiles"], store, slides_page)
    facts = {"nbytes": len(page.encode()), "slides": min(len(manifests["tiles"].items), params.max_slides)}
    return Manifest(stage="report", refused=tuple(all_refused(manifests)), summary=facts)


def context(
    manifests: Mapping[str, Manifest], params: ReportParams, store: Store, training_csv: Path | None
) -> dict[str, Any]:
    """All that the template shows."""
    evaluate, benchmark, tiles = manifests["evaluate"], manifests["benchmark"], manifests["tiles"]
    shown = spread(tiles.items, params.max_slides)
    return {
        "title": params.title,
        "teacher": evaluate.summary["teacher"],
        "student": evaluate.summary["student"],
        "is_demo": evaluate.summary["teacher"] == "demo",
        "primary": evaluate.summary["primary"],
        "figures": verdict.figures(evaluate, benchmark),
        "not_measured": verdict.not_measured(evaluate, benchmark),
        "slides": shown,
        "catalogue": {item.id: item.info for item in manifests["slides"].items},
        "pictures": slide_pictures(tiles, shown, store),
        "splits": split_counts(tiles),
        "refused": all_refused(manifests),
        "training": training(training_csv),
        "evaluate": evaluate.summary,
        "benchmark": benchmark.summary,
        "probes": probe_section(evaluate),
        "probe_names": PROBES,
        "models": MODELS,
        "slide_fidelity": fidelity_section(evaluate),
        "details": detail_rows(evaluate.summary),
        "tradeoff": tradeoff(evaluate, benchmark),
        "manifests": {stage: manifests[stage] for stage in STAGES},
    }


def all_refused(manifests: Mapping[str, Manifest]) -> list[Refusal]:
    """Every refusal once, sorted by slide (later stages carry the earlier ones along)."""
    found = {(r.id, r.reason): r for stage in STAGES for r in manifests[stage].refused}
    return [found[key] for key in sorted(found)]


def split_counts(tiles: Manifest) -> list[dict[str, Any]]:
    """Slides, tiles and tissue of each split, train first."""
    slides = Counter(str(item.info.get("split")) for item in tiles.items)
    order = sorted(slides, key=lambda split: (split != "train", split != "test", split))
    return [
        {
            "split": split,
            "slides": slides[split],
            "tiles": sum(item.n for item in tiles.items if item.info.get("split") == split),
            "tissue_mm2": sum(
                item.info.get("tissue_mm2") or 0 for item in tiles.items if item.info.get("split") == split
            ),
        }
        for split in order
    ]


def training(path: Path | None) -> dict[str, Any] | None:
    """The training curves and five points of them; None where there is no such file or it has no row."""
    if path is None or not path.is_file():
        return None
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in CURVES if rows and rows[0].get(name) not in (None, "")]
    if not names:
        return None
    curves = [(name, [(float(row["step"]), float(row[name])) for row in rows if row[name]]) for name in names]
    picked = sorted({round(share * (len(rows) - 1)) for share in (0, 0.25, 0.5, 0.75, 1)})
    return {
        "names": {name: CURVES[name] for name in names},
        "plot": charts.lines(curves, "Training loss by step", "step"),
        "rows": [{"step": rows[i]["step"], **{name: float(rows[i][name]) for name in names}} for i in picked],
    }


def probe_section(evaluate: Manifest) -> list[dict[str, Any]]:
    """For each split that was probed: its plot and its figures."""
    rows, sections = probe_rows(evaluate), []
    for split, found in (evaluate.summary["probes"] or {}).items():
        marks = {
            name: [
                charts.Mark(row["model"], row["balanced_accuracy"], row["low"], row["high"])
                for row in rows
                if (row["split"], row["probe"]) == (split, probe)
            ]
            for probe, name in (PROBES | {"floor": "majority class"}).items()
        }
        label = f"Balanced accuracy of teacher, student and untrained student on split {split}"
        plot = charts.dots(list(marks.items()), label, "balanced accuracy", 0.0, 1.0)
        sections.append({"split": split, "plot": plot, "found": found})
    return sections


def fidelity_section(evaluate: Manifest) -> dict[str, Any] | None:
    """The per-slide plot (the worst slides where there are many) and the rows of its table."""
    rows = sorted(fidelity_rows(evaluate), key=lambda row: (row["cosine"], row["slide"]))
    if not rows:
        return None
    worst = rows[:MOST_DOTS]
    low = min(0.0, *(row["cosine_p5"] for row in worst))
    marks = [(row["slide"], [charts.Mark("student", row["cosine"], row["cosine_p5"], row["cosine"])]) for row in worst]
    label = "Standardised cosine to the teacher by held-out slide"
    axis_label = "mean, and down to the 5th percentile"
    return {"plot": charts.dots(marks, label, axis_label, low, 1.0), "rows": rows, "drawn": len(worst)}


def tradeoff(evaluate: Manifest, benchmark: Manifest) -> dict[str, Any] | None:
    """Accuracy against time per tile; fidelity stands in for accuracy where no tile has a label."""
    primary, times_ms = evaluate.summary["primary"], {}
    for name in ("teacher", "student"):
        times_ms[name] = 1e3 / benchmark.summary[name]["tiles_per_s"]
    times_ms["untrained"] = times_ms["student"]
    probes = (evaluate.summary["probes"] or {}).get(primary)
    found = (evaluate.summary["fidelity"] or {}).get(primary)
    if probes:
        what = "balanced accuracy, linear probe"
        linear = probes["linear"]
        values = {n: (linear[n]["balanced_accuracy"], *linear[n]["interval"]) for n in MODELS if n in linear}
    elif found:
        what = "standardised cosine"
        values = {"teacher": (1.0, None, None), "student": (found["cosine"], *found["cosine_interval"])}
    else:
        return None
    titles = {"teacher": "teacher", "student": "student", "untrained": "untrained student"}
    points = [charts.Point(name, titles[name], times_ms[name], *value) for name, value in values.items()]
    label = f"{what} against milliseconds a tile"
    return {
        "plot": charts.scatter(points, label, "milliseconds a tile, best batch (logarithmic)", what),
        "what": what,
        "points": points,
    }
