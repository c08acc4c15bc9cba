"""`histill report --compare EXP ...`: students of several experiments side by side, one self-contained page.

What is compared are the manifests that each branch's or experiment's dvc.lock names (pareto.py). Figures of other
held-out slides or of another teacher stand there too, but the page says that they do not compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.base.errors import EvaluationError, ManifestError
from pipeline.base.files import write_atomic
from pipeline.base.items import StudentManifest
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.evaluate.tables import PROBES
from pipeline.report import charts, verdict
from pipeline.report.across.pareto import Pareto, Study, gather, pareto, time_interval
from pipeline.report.details import detail_rows
from pipeline.report.page import render
from pipeline.report.sections import ACCURACIES

WORKSPACE = "workspace"
Cell = dict[str, Any] | None


def compare_experiments(root: Path, names: Sequence[str], out: Path) -> list[str]:
    """Write the page of these experiments (of all, where none is named) to `out`; their names, as shown.

    Raises `EvaluationError` for a name that no branch or experiment with results has, and where there is nothing, and
    `ManifestError` for results that another version of Histill wrote; where none is named, those are left out.
    """
    found = chosen(root, names)
    unread = {study.name: error for study in found if (error := _unreadable(study))}
    studies = [study for study in found if study.name not in unread]
    if unread and (names or not studies):
        raise next(iter(unread.values()))
    compared = pareto(studies)
    page = render(
        "compare.html",
        studies=studies,
        left_out=[*compared.left_out, *(f"{name}: another version of Histill wrote it" for name in unread)],
        plot=front_plot(compared),
        what=ACCURACIES.get(compared.accuracy or "", compared.accuracy),
        accuracy=compared.accuracy,
        plotted=compared.rows,
        settings=settings(studies),
        costs=costs(studies),
        figures=figures(studies),
    )
    write_atomic(out, page)
    return [study.name for study in studies]


def chosen(root: Path, names: Sequence[str]) -> list[Study]:
    """The studies of those names, in that order; all of them where there are no names."""
    here = workspace(root) if not names or WORKSPACE in names else None
    known = {study.name: study for study in gather(root, here)}
    unknown = [name for name in names if name not in known]
    if unknown or not known:
        what = f"no results are known of {', '.join(unknown) or 'any experiment'}"
        fix = f"known: {', '.join(known) or 'none'}; `dvc exp show` lists experiments, equal ones are taken once"
        raise EvaluationError(what, where=str(root), fix=fix)
    return [known[name] for name in dict.fromkeys(names)] if names else list(known.values())


def _unreadable(study: Study) -> ManifestError | None:
    """Why a study cannot be shown."""
    try:
        study.require_version()
    except ManifestError as error:
        return error
    return None


def workspace(root: Path) -> Study | None:
    """The checkout's own results, where they are all there."""
    evaluate, benchmark, student = (root / "artifacts" / f"{s}.json" for s in ("evaluate", "benchmark", "student"))
    if not (evaluate.is_file() and benchmark.is_file() and student.is_file()):
        return None
    made = EvaluateManifest.load(evaluate), BenchmarkManifest.load(benchmark)
    return Study(WORKSPACE, *made, StudentManifest.load(student))


def front_plot(compared: Pareto) -> Markup | None:
    """Accuracy against time, every student named; None where no accuracy was measured."""
    key = compared.accuracy
    rows = [row for row in compared.rows if key and row.get(key) is not None]
    if key is None or not rows:
        return None
    points = [
        charts.Point("teacher" if i == 0 else "student", row["name"], row["relative_time"], row[key])
        for i, row in enumerate(rows)
    ]
    front = sorted((row["relative_time"], row[key]) for row in rows if row["on_front"])
    what = ACCURACIES.get(key, key)
    label = f"{what} against the time of a tile, as a share of the teacher’s"
    return charts.scatter(points, label, "time a tile, teacher = 1 (logarithmic)", what, front)


def settings(studies: Sequence[Study]) -> list[dict[str, Any]]:
    """{name, values}: parameters of the student that are not the same everywhere."""
    recipes = [_flat(study.student.summary.student if study.student else {}) for study in studies]
    names = dict.fromkeys(name for recipe in recipes for name in recipe)
    rows = [{"name": name, "values": [recipe.get(name) for recipe in recipes]} for name in names]
    return [row for row in rows if any(value != row["values"][0] for value in row["values"])]


def costs(studies: Sequence[Study]) -> list[dict[str, Any]]:
    """{name, values (texts)} of the student's size and speed."""
    speeds = [study.benchmark.summary for study in studies]
    return [
        {"name": "parameters", "values": [verdict.quantity(s["student"]["params"]) for s in speeds]},
        {"name": "GMAC a tile", "values": [verdict.digits(s["student"]["gmacs"]) for s in speeds]},
        {"name": "tiles/s, best batch", "values": [verdict.digits(s["student"]["tiles_per_s"]) for s in speeds]},
        {"name": "time a tile, teacher = 1", "values": [_share(s) for s in speeds]},
        {"name": "measured on", "values": [study.timed_on for study in studies]},
    ]


def _share(speed: Mapping[str, Any]) -> str:
    """The student's time as a share of the teacher's, with its interval where the run has one."""
    low, high = time_interval(speed)
    ends = f" ({verdict.digits(low)}–{verdict.digits(high)})" if low and high else ""
    return f"{verdict.digits(1 / speed['speedup'])}{ends}"


def figures(studies: Sequence[Study]) -> list[dict[str, Any]]:
    """{name, cells: [{value, low, high, kept} or None]}: every figure of the students."""
    found = [dict(_figures(study.evaluate.summary)) for study in studies]
    names = dict.fromkeys(name for figures_ in found for name in figures_)
    return [{"name": name, "cells": [figures_.get(name) for figures_ in found]} for name in names]


def _figures(summary: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    rows: list[tuple[str, Cell]] = []
    for split, probes in (summary["probes"] or {}).items():
        for kind, name in PROBES.items():
            row = probes[kind]["student"]
            low, high = row["interval"]
            kept = (probes[kind]["retention"] or {}).get("value")
            rows.append(
                (f"{name}, {split}", {"value": row["balanced_accuracy"], "low": low, "high": high, "kept": kept})
            )
    for row in detail_rows(summary):
        if row["student"]:
            kept = row["kept"]["value"] if row["kept"] else None
            rows.append((f"{row['what']}, {row['where']}", {**row["student"], "kept": kept}))
    return rows


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
