"""What each section of the report shows: plots with the figures that stand beside them, from manifests and plots/*.csv.

Pure functions of what they are given; no torch. A section that has nothing to show is None or empty, and the page says
why.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.evaluate.tables import MODELS, PROBES, fidelity_rows
from pipeline.report import charts
from pipeline.report.across.pareto import time_interval
from pipeline.report.details import detail_rows

MOST_DOTS = 24
CURVES = {"loss": "together", "cls": "global embedding", "patch": "dense tokens", "relation": "relations"}
ACCURACIES = {"linear_student": "balanced accuracy, linear probe", "cosine": "standardised cosine"}
"""Column of pareto.csv -> what the plot of accuracy against time calls it."""
OF_SPLITS = ("cosine", "cosine, 5th percentile")
"""Figures that stand in a table of their own, one row a split."""
MOST_NAMES = 8
"""Students named in that plot, beside the teacher and this run's own; the table names all."""


def training(path: Path) -> dict[str, Any] | None:
    """The training curves and five points of them; None where there is no such file or it has no row."""
    if not path.is_file():
        return None
    rows = _read(path)
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


def probe_sections(evaluate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each split of the slides and of each data set that was probed: its title, its plot and its figures."""
    probed = {f"split {split}": found for split, found in (evaluate["probes"] or {}).items()}
    for name, splits in evaluate["sets"].items():
        probed |= {f"{name}, split {split}": found["probes"] for split, found in splits.items() if found.get("probes")}
    sections = []
    for where, found in probed.items():
        rows = [(name, [_mark(model, found[kind]) for model in MODELS if model in found[kind]])
                for kind, name in PROBES.items()]  # fmt: skip
        rows.append(("majority class", [_mark("majority", {"majority": found["majority"]})]))
        label = f"Balanced accuracy of teacher, student and untrained student on {where}"
        plot = charts.dots(rows, label, "balanced accuracy", 0.0, 1.0)
        sections.append({"where": where, "plot": plot, "found": found})
    return sections


def _mark(model: str, row: Mapping[str, Any]) -> charts.Mark:
    return charts.Mark(model, row[model]["balanced_accuracy"], *row[model]["interval"])


def slide_fidelity(evaluate: EvaluateManifest) -> dict[str, Any] | None:
    """The per-slide plot, of the worst slides where there are many, and the rows of its table."""
    rows = sorted(fidelity_rows(evaluate), key=lambda row: (row["cosine"], row["slide"]))
    if not rows:
        return None
    worst = rows[:MOST_DOTS]
    low = min(0.0, *(row["cosine_p5"] for row in worst))
    marks = [(row["slide"], [charts.Mark("student", row["cosine"], row["cosine_p5"], row["cosine"])]) for row in worst]
    label = "Standardised cosine to the teacher by held-out slide"
    axis_label = "mean, and down to the 5th percentile"
    return {"plot": charts.dots(marks, label, axis_label, low, 1.0), "rows": worst, "more": rows[MOST_DOTS:]}


def figures_of(evaluate: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """{section: rows}, see details.py; without what the table of the splits' cosines shows."""
    sections: dict[str, list[dict[str, Any]]] = {"fidelity": [], "downstream": [], "robustness": []}
    for row in detail_rows(evaluate):
        if not (row["where"] in (evaluate["fidelity"] or {}) and row["what"] in OF_SPLITS):
            sections[row["section"]].append(row)
    return sections


def label_rows(evaluate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """{where, k, found} of every split and data set, for each number of labels a class; see from_labels.py."""
    told = dict(evaluate["from_labels"] or {})
    for name, splits in evaluate["sets"].items():
        told |= {f"{name}, {split}": found.get("from_labels") or {} for split, found in splits.items()}
    return [
        {"where": where, "k": k, "found": found[k]} for where, found in told.items() for k in sorted(found, key=int)
    ]


def robustness_plot(evaluate: Mapping[str, Any]) -> Markup | None:
    """Agreement of teacher and student under each change, on one scale."""
    changes = (evaluate["robustness"] or {}).get("changes")
    if not changes:
        return None
    models = ("teacher", "student")
    rows = [
        (name, [charts.Mark(m, found[m]["agreement"], *found[m]["interval"]) for m in models])
        for name, found in changes.items()
    ]
    low = min(0.0, *(mark.low or 0.0 for _, marks in rows for mark in marks))
    return charts.dots(rows, "Agreement of teacher and student with themselves", "agreement", low, 1.0)


def tradeoff(evaluate: EvaluateManifest, benchmark: BenchmarkManifest, pareto_csv: Path) -> dict[str, Any] | None:
    """Accuracy against time a tile, as a share of the teacher's; fidelity stands in where no tile has a label.

    This run's teacher, student and floor with their intervals, and every other student that pareto.csv names.
    """
    what, values = _values(evaluate.summary)
    if not values:
        return None
    ms = {name: 1e3 / benchmark.summary[name]["tiles_per_s"] for name in ("teacher", "student")}
    ms["untrained"] = ms["student"]
    column = "linear_student" if what == ACCURACIES["linear_student"] else "cosine"
    others = [row for row in _read(pareto_csv) if row.get(column)] if pareto_csv.is_file() else []
    on_front = {row["name"]: row["on_front"] == "True" for row in others}
    here = dict(zip(("time_low", "time_high"), time_interval(benchmark.summary), strict=True))
    unsure: dict[str, float | None] = {"time_low": None, "time_high": None}
    titles = {"teacher": "teacher", "student": "student", "untrained": "untrained student"}
    rows = [
        {"role": name, "name": titles[name], "time": ms[name] / ms["teacher"], "ms": ms[name], "value": value,
         "low": low, "high": high, "front": name == "student" and on_front.get("workspace", not others),
         **(unsure if name == "teacher" else here)}
        for name, (value, low, high) in values.items()
    ]  # fmt: skip
    for row in others:
        if row["name"] not in ("teacher", "workspace"):
            time, value = float(row["relative_time"]), float(row[column])
            name = f"{row['name']}, {row['student']}"
            ends = {key: float(row[key]) if row.get(key) else None for key in unsure}
            rows.append({"role": "other", "name": name, "time": time, "ms": float(row["ms_a_tile"]), "value": value,
                         "low": None, "high": None, "front": on_front[row["name"]], **ends})  # fmt: skip
    named = [row["name"] for row in rows if row["role"] == "other" and row["front"]][:MOST_NAMES]
    points = [
        charts.Point(row["role"], row["name"] if row["role"] != "other" or row["name"] in named else "",
                     row["time"], row["value"], row["low"], row["high"])
        for row in rows
    ]  # fmt: skip
    front = sorted((row["time"], row["value"]) for row in rows if row["front"])
    label = f"{what} against the time of a tile, as a share of the teacher’s"
    plot = charts.scatter(points, label, "time a tile, teacher = 1, best batch (logarithmic)", what, front)
    return {"plot": plot, "what": what, "rows": rows, "others": len(rows) - len(values)}


def speedups(benchmark: Mapping[str, Any]) -> list[dict[str, Any]]:
    """{where, teacher, student (tiles/s, each at its best batch), value, interval}, the leading engine first."""
    cells = {("_".join((c["engine"], c["precision"], c["device"])), c["model"]): c for c in benchmark["others"]}
    lead = {"where": f"{benchmark['engine']}, {benchmark['precision']}", "interval": benchmark["speedup_interval"]}
    rates = {model: benchmark[model]["tiles_per_s"] for model in ("teacher", "student")}
    rows = [{**lead, **rates, "value": benchmark["speedup"]}]
    for where, ratio in benchmark["speedups"].items():
        rates = {model: cells[where, model]["tiles_per_s"] for model in ("teacher", "student")}
        rows.append({"where": where.replace("_", ", "), **rates, **ratio})
    return rows


def _values(summary: Mapping[str, Any]) -> tuple[str, dict[str, tuple[float, float | None, float | None]]]:
    """What the plot's accuracy is, and {model: (value, low, high)}; empty where nothing is held out."""
    linear = ((summary["probes"] or {}).get(summary["primary"]) or {}).get("linear")
    found = (summary["fidelity"] or {}).get(summary["primary"])
    if linear:
        values = {n: (linear[n]["balanced_accuracy"], *linear[n]["interval"]) for n in MODELS if n in linear}
        return ACCURACIES["linear_student"], values
    if found:
        return ACCURACIES["cosine"], {
            "teacher": (1.0, None, None),
            "student": (found["cosine"], *found["cosine_interval"]),
        }
    return "", {}


def _read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
