"""The figures of manifests as small tables: CSV files for `dvc plots`, and the headline for `dvc metrics`.

All are pure functions of a manifest, so that they say what it says. Columns:

    probes.csv    name (of the bar), split, probe, model, balanced_accuracy, low, high, accuracy
    fidelity.csv  split, slide, tiles, cosine, cosine_p5, patch_cosine, patch_cosine_p5 (empty without dense tokens)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base.files import write_csv
from pipeline.evaluate.manifest import EvaluateManifest

PROBES = {"knn": "kNN", "linear": "linear probe", "head_transfer": "teacher’s head"}
HEADLINE_SHOTS = ("1", "4", "16")
COSINES = ("cosine", "cosine_p5", "patch_cosine", "patch_cosine_p5")
MODELS = ("teacher", "student", "untrained")


def write_evaluate_plots(manifest: EvaluateManifest, folder: Path) -> None:
    """Write probes.csv and fidelity.csv, headers alone where nothing was measured."""
    columns = ("name", "split", "probe", "model", "balanced_accuracy", "low", "high", "accuracy")
    write_csv(folder / "probes.csv", columns, probe_rows(manifest))
    write_csv(folder / "fidelity.csv", ("split", "slide", "tiles", *COSINES), fidelity_rows(manifest))


def probe_rows(manifest: EvaluateManifest) -> list[dict[str, Any]]:
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


def fidelity_rows(manifest: EvaluateManifest) -> list[dict[str, Any]]:
    """A row for each held-out slide."""
    return [
        {"split": item.split, "slide": item.id, "tiles": item.n} | item.model_dump(include=set(COSINES))
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
