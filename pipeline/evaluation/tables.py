"""The figures of manifests as small tables: CSV files for `dvc plots`, and the headline for `dvc metrics`.

All are pure functions of a manifest, so that they say what it says. Columns:

    probes.csv    name (of the bar), split, probe, model, balanced_accuracy, low, high, accuracy
    fidelity.csv  split, slide, tiles, cosine, cosine_p5, patch_cosine, patch_cosine_p5 (empty without dense tokens)
    latency.csv   batch, and for teacher and student each <model>_ms_p50, _p90, _p99, <model>_tiles_per_s
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.manifest import Manifest, write_atomic

PROBES = {"knn": "kNN", "linear": "linear probe", "head_transfer": "teacher’s head"}
HEADLINE_SHOTS = ("1", "4", "16")
COSINES = ("cosine", "cosine_p5", "patch_cosine", "patch_cosine_p5")
MODELS = ("teacher", "student", "untrained")


def six_digits(value: Any) -> Any:
    """The value with every float in it rounded to six significant digits: readable, and diffs stay small."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: six_digits(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [six_digits(inner) for inner in value]
    return value


def write_evaluate_plots(manifest: Manifest, folder: Path) -> None:
    """Write probes.csv and fidelity.csv, headers alone where nothing was measured."""
    columns = ("name", "split", "probe", "model", "balanced_accuracy", "low", "high", "accuracy")
    write_csv(folder / "probes.csv", columns, probe_rows(manifest))
    write_csv(folder / "fidelity.csv", ("split", "slide", "tiles", *COSINES), fidelity_rows(manifest))


def write_benchmark_plots(manifest: Manifest, folder: Path) -> None:
    """Write latency.csv, of the leading engine."""
    columns = {f"ms_{p}": f"latency_ms_{p}" for p in ("p50", "p90", "p99")} | {"tiles_per_s": "tiles_per_s"}
    rows: dict[int, dict[str, Any]] = {}
    for model in ("teacher", "student"):
        for row in manifest.summary[model]["rows"]:
            line = rows.setdefault(row["batch"], {"batch": row["batch"]})
            line |= {f"{model}_{column}": row[key] for column, key in columns.items()}
    write_csv(folder / "latency.csv", list(next(iter(rows.values()))), rows.values())


def probe_rows(manifest: Manifest) -> list[dict[str, Any]]:
    """A row for each split, probe and model; the majority class is a `model` of the probe `floor`."""
    rows = []
    for split, probes in (manifest.summary["probes"] or {}).items():
        found = [(kind, model, probes[kind][model]) for kind in PROBES for model in MODELS if model in probes[kind]]
        for kind, model, figures in [*found, ("floor", "majority", probes["majority"])]:
            low, high = figures["interval"]
            name = model if kind == "floor" else f"{model}, {kind}"
            row = {"name": f"{name} ({split})", "split": split, "probe": kind, "model": model, "low": low, "high": high}
            rows.append(row | {key: figures[key] for key in ("balanced_accuracy", "accuracy")})
    return rows


def fidelity_rows(manifest: Manifest) -> list[dict[str, Any]]:
    """A row for each held-out slide."""
    return [
        {"split": item.info["split"], "slide": item.id, "tiles": item.n} | {key: item.info.get(key) for key in COSINES}
        for item in manifest.items
    ]


def evaluate_headline(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The primary split's figures without their intervals, flat, for `dvc metrics`; what was not measured is left out.

    Of data sets, the student's balanced accuracy (or mIoU) and what it keeps, as <set>_<split>_….
    """
    lead, headline = summary["primary"], {}
    found = (summary["fidelity"] or {}).get(lead)
    if found:
        headline = {key: found[key] for key in ("cosine", "cosine_p5", "cosine_raw", "cosine_raw_constant")}
        if found["patch"]:
            headline |= {f"patch_{key}": found["patch"][key] for key in ("cosine", "cosine_p5")}
        if found["structure"]:
            headline |= {key: found["structure"][key]["student"]["value"] for key in ("cka", "neighbours", "rankme")}
            headline["rankme_teacher"] = found["structure"]["rankme"]["teacher"]["value"]
    rows = {kind: row for kind, row in ((summary["probes"] or {}).get(lead) or {}).items() if kind in PROBES}
    rows |= {
        f"shots_{shots}": row
        for shots, row in ((summary["few_shot"] or {}).get(lead) or {}).items()
        if shots in HEADLINE_SHOTS
    }
    slides = (summary["slide_labels"] or {}).get(lead)
    if slides:
        rows |= {"slide_labels": slides, "slide_labels_head_transfer": slides["head_transfer"]}
    for kind, row in rows.items():
        headline |= {f"{kind}_{model}": row[model]["balanced_accuracy"] for model in MODELS if model in row}
        if row["retention"]:
            headline[f"{kind}_retention"] = row["retention"]["value"]
    headline |= _label_headline((summary["from_labels"] or {}).get(lead))
    for name, change in ((summary["robustness"] or {}).get("changes") or {}).items():
        headline |= {f"{name}_agreement_{model}": change[model]["agreement"] for model in ("teacher", "student")}
    for name, splits in summary["sets"].items():
        for split, figures in splits.items():
            headline |= {f"{name}_{split}_{key}": value for key, value in _set_headline(figures).items()}
    return headline


def _set_headline(figures: Mapping[str, Any]) -> dict[str, Any]:
    """One split of a data set: the probes that it has."""
    headline: dict[str, Any] = {"cosine": figures["fidelity"]["cosine"]}
    probes, dense = figures.get("probes") or {}, figures.get("dense") or {}
    for prefix, key, found in (("", "balanced_accuracy", probes), ("dense_", "miou", dense)):
        for kind in PROBES:
            row = found.get(kind)
            if row:
                headline |= {f"{prefix}{kind}_{model}": row[model][key] for model in MODELS if model in row}
                headline |= {f"{prefix}{kind}_retention": row["retention"]["value"]} if row["retention"] else {}
    return headline | _label_headline(figures.get("from_labels"))


def _label_headline(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """The distilled student, the same net from the labels alone, and the difference, for each number of labels."""
    headline: dict[str, Any] = {}
    for k, row in (found or {}).items():
        headline |= {f"labels_{k}_{model}": row[model]["balanced_accuracy"] for model in ("student", "from_labels")}
        headline[f"labels_{k}_gain"] = row["gain"]["value"]
    return headline


def benchmark_headline(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes, costs, best throughputs and the smallest batch's latency, flat, for `dvc metrics`; what is null left out.

    The student's throughput over the teacher's has its interval's ends beside it, speedup_low and speedup_high; of
    other engines it is speedup_<engine>_<precision>_<device>, and so are its ends.
    """
    keys = ("params", "gmacs", "tiles_per_s", "slides_per_hour", "memory_mb", "joules_per_tile")
    headline = {f"{name}_{key}": summary[name][key] for name in ("teacher", "student") for key in keys}
    headline |= {f"{name}_latency_ms": summary[name]["rows"][0]["latency_ms_p50"] for name in ("teacher", "student")}
    ratios = {"speedup": {"value": summary["speedup"], "interval": summary["speedup_interval"]}}
    ratios |= {f"speedup_{where}": ratio for where, ratio in summary["speedups"].items()}
    for name, ratio in ratios.items():
        low, high = ratio["interval"] or (None, None)
        headline |= {name: ratio["value"], f"{name}_low": low, f"{name}_high": high}
    return {key: value for key, value in headline.items() if value is not None}


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())
