"""The figures of `evaluate` as small tables: CSV files for `dvc plots`.

All are pure functions of what the stage found, so that they say what it says. Columns:

    probes.csv    name (of the bar), split, probe (uni_linear and the like by UNI's protocol), model,
                  balanced_accuracy, low, high, accuracy
    fidelity.csv  split, slide, tiles, cosine, cosine_p5, patch_cosine, patch_cosine_p5 (empty without dense tokens)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pipeline.base.files import write_csv
from pipeline.evaluate.headline import prefixed
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.measures.split_figures import Accuracy, Probes


@dataclass(frozen=True)
class ProbeRow:
    """One bar of probes.csv; the majority class is a `model` of the probe `floor`."""

    name: str
    split: str
    probe: str
    model: str
    balanced_accuracy: float
    low: float | None
    high: float | None
    accuracy: float


@dataclass(frozen=True)
class SlideRow:
    """One held-out slide of fidelity.csv."""

    split: str
    slide: str
    tiles: int
    cosine: float
    cosine_p5: float
    patch_cosine: float | None
    patch_cosine_p5: float | None


def write_evaluate_plots(manifest: EvaluateManifest, folder: Path) -> None:
    """Write probes.csv and fidelity.csv, headers alone where nothing was measured."""
    for name, kind, rows in (
        ("probes", ProbeRow, probe_rows(manifest.summary)),
        ("fidelity", SlideRow, fidelity_rows(manifest)),
    ):
        write_csv(folder / f"{name}.csv", [field.name for field in fields(kind)], map(asdict, rows))


def probe_rows(summary: EvaluateSummary) -> list[ProbeRow]:
    """A row for each split, probe and model, and one for the majority class."""
    rows = []
    for split, found in summary.splits.items():
        if isinstance(found.probes, Probes):
            for name, table in found.probes.by_kind().items():
                kind = prefixed(found.probes, name)
                rows += [
                    _probe_row(f"{model}, {kind}", split, kind, model, score)
                    for model, score in table.scores().items()
                    if model != "majority"
                ]
            rows.append(_probe_row("majority", split, "floor", "majority", found.probes.linear.majority))
    return rows


def _probe_row(name: str, split: str, probe: str, model: str, found: Accuracy) -> ProbeRow:
    span = found.balanced.span
    return ProbeRow(
        name=f"{name} ({split})",
        split=split,
        probe=probe,
        model=model,
        balanced_accuracy=found.balanced.value,
        low=span.low if span else None,
        high=span.high if span else None,
        accuracy=found.plain.value,
    )


def fidelity_rows(manifest: EvaluateManifest) -> list[SlideRow]:
    """A row for each held-out slide."""
    return [
        SlideRow(
            split=item.split,
            slide=item.id,
            tiles=item.n,
            cosine=item.cosine,
            cosine_p5=item.cosine_p5,
            patch_cosine=item.patch_cosine,
            patch_cosine_p5=item.patch_cosine_p5,
        )
        for item in manifest.items
    ]
