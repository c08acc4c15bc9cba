"""A study's results as one Markdown table: each arm's mean over seeds, and its paired difference from the first arm.

Intervals are Student's t at 95 % over the seeds: they say how far another seed may land, not how another data set
would. Two arms of one seed share their tiles, their order and their initial weights, so their difference is paired.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from pipeline.study.run import Plan

COLUMNS = {
    "cosine": "cosine",
    "linear": "linear probe",
    "linear_kept": "kept",
    "knn": "20-NN",
    "knn_kept": "kept",
    "head_kept": "teacher’s head kept",
}
LABELS = {"student": "distilled", "from_labels": "from labels alone", "gain": "difference"}
"""Further columns for each number of labels of `evaluate.from_labels`, where all results have them."""
_PROBES = {"linear": "linear", "knn": "knn", "head": "head_transfer"}

Figures = dict[str, float]


def results_of(plan: Plan, results: Path, split: str) -> dict[str, dict[int, Figures]]:
    """{arm: {seed: figures of one split}}; runs without a result, or without that split, are left out.

    Figures: `cosine` (centred, standardised), and for linear, knn and head the student's balanced accuracy, its share
    of the teacher's (`…_kept`), and `…_teacher`, `…_untrained`; for k labels a class, where they were asked for,
    `labels_k_student`, `labels_k_from_labels` and their difference `labels_k_gain`.
    """
    found: dict[str, dict[int, Figures]] = {arm: {} for arm in plan.arms}
    for run in plan.runs():
        path = results / f"{run.name}.json"
        if path.exists():
            summary = json.loads(path.read_bytes())["summary"]
            if split in (summary["probes"] or {}):
                found[run.arm][run.seed] = _figures(summary, split)
    return found


def markdown(found: Mapping[str, Mapping[int, Figures]], split: str) -> str:
    """The table of one split: a row an arm, `mean ± half the interval`, differences from the first arm beside it."""
    columns = COLUMNS | _label_columns(found)
    rows = [f"| `{split}` | seeds | {' | '.join(columns.values())} |", "| --- " * (len(columns) + 2) + "|"]
    first = next(iter(found.values()), {})
    for arm, by_seed in found.items():
        cells = [_cell([figures[name] for figures in by_seed.values()], name) for name in columns]
        rows.append(f"| {arm} | {len(by_seed)} | {' | '.join(cells)} |")
        shared = [seed for seed in by_seed if seed in first]
        if by_seed is not first and shared:
            gains = [_gain([by_seed[s][name] - first[s][name] for s in shared], name) for name in columns]
            rows.append(f"| – against the first | {len(shared)} | {' | '.join(gains)} |")
    return "\n".join([*rows, "", _floors(found)])


def interval(values: Sequence[float]) -> tuple[float, float]:
    """(mean, half width) of Student's 95 % interval; the half width of one value is NaN."""
    values_S = np.asarray(values, dtype=np.float64)
    if len(values_S) < 2:
        return float(values_S.mean()), float("nan")
    error = values_S.std(ddof=1) / np.sqrt(len(values_S))
    return float(values_S.mean()), float(stats.t.ppf(0.975, len(values_S) - 1) * error)


def _figures(summary: Mapping[str, Any], split: str) -> Figures:
    probes = summary["probes"][split]
    figures: Figures = {"cosine": summary["fidelity"][split]["cosine"]}
    for name, probe in _PROBES.items():
        by_model = {model: told["balanced_accuracy"] for model, told in probes[probe].items() if _is_accuracy(told)}
        figures |= {f"{name}_{model}": value for model, value in by_model.items()}
        figures |= {name: by_model["student"], f"{name}_kept": by_model["student"] / by_model["teacher"]}
    for k, told in ((summary.get("from_labels") or {}).get(split) or {}).items():
        figures |= {f"labels_{k}_{model}": told[model]["balanced_accuracy"] for model in ("student", "from_labels")}
        figures[f"labels_{k}_gain"] = told["gain"]["value"]
    return figures


def _label_columns(found: Mapping[str, Mapping[int, Figures]]) -> dict[str, str]:
    every = [set(figures) for by_seed in found.values() for figures in by_seed.values()]
    shared = set.intersection(*every) if every else set()
    counts = sorted(int(name.split("_")[1]) for name in shared if name.startswith("labels_") and name.endswith("_gain"))
    return {f"labels_{k}_{key}": f"{k} labels: {label}" for k in counts for key, label in LABELS.items()}


def _is_accuracy(told: Any) -> bool:
    return isinstance(told, Mapping) and "balanced_accuracy" in told


def _floors(found: Mapping[str, Mapping[int, Figures]]) -> str:
    """What the figures stand between: the teacher, and the student's architecture with random weights."""
    every = [figures for by_seed in found.values() for figures in by_seed.values()]
    said = []
    for name, label in (("linear", "linear probe"), ("knn", "20-NN")):
        teacher = float(np.mean([figures[f"{name}_teacher"] for figures in every]))
        floor = float(np.mean([figures[f"{name}_untrained"] for figures in every]))
        said.append(f"{label}: teacher {teacher:.3f}, untrained student {floor:.3f}")
    return "; ".join(said) + "." if every else ""


def _cell(values: Sequence[float], name: str) -> str:
    if not values:
        return "–"
    mean, half = interval(values)
    scale, digits, unit = (100, 1, " %") if name.endswith("_kept") else (1, 3, "")
    spread = "" if np.isnan(half) else f" ± {half * scale:.{digits}f}"
    return f"{mean * scale:.{digits}f}{unit}{spread}"


def _gain(values: Sequence[float], name: str) -> str:
    text = _cell(values, name)
    return text if text.startswith("-") else f"+{text}"
