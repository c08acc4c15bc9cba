"""Every figure of evaluate.json as rows for tables: teacher, student, both floors, and what is kept. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.base.figures import Figure
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.measures.robustness.results import Robustness
from pipeline.measures.split_figures import (
    MODELS,
    PROBES,
    Accuracies,
    Dense,
    Likeness,
    OfModels,
    Overlaps,
    Probes,
    SlideLabels,
    SplitFigures,
    Structure,
    UniProbes,
)

Section = Literal["fidelity", "downstream", "robustness"]
ACCURACY_COLUMNS = (*MODELS, "majority")
"""What an accuracy stands beside: both models, the network with random weights, and the most frequent class."""


@dataclass(frozen=True)
class Row:
    """One figure of the models. `cells` by column: one of `ACCURACY_COLUMNS`, `kept`, `way` or `difference`.

    `section` is where the report shows it, `where` the split or data set that it is of.
    """

    section: Section
    what: str
    cells: Mapping[str, Figure]
    where: str = ""


def detail_rows(summary: EvaluateSummary) -> list[Row]:
    """Every figure of slides, data sets and robustness beside the slides' own probes."""
    rows: list[Row] = []
    rows += _of_splits(summary.splits, _fidelity)
    rows += _of_splits(summary.splits, _scores)
    rows += _of_splits(summary.splits, _few_shot)
    rows += _of_splits(summary.splits, _slide_labels)
    for name, of_set in summary.sets.items():
        rows += _of_splits({f"{name}, {split}": found for split, found in of_set.splits.items()}, _of_set)
    if isinstance(summary.robustness, Robustness):
        for change, found in summary.robustness.changes.items():
            cells = {"teacher": found.teacher, "student": found.student, "difference": found.difference}
            rows.append(Row("robustness", f"agreement, {change}", cells, f"{summary.robustness.n} tiles"))
    return rows


def _of_splits(splits: Mapping[str, SplitFigures], told: Callable[[SplitFigures], Iterator[Row]]) -> Iterator[Row]:
    for where, found in splits.items():
        for row in told(found):
            yield replace(row, where=where)


def _fidelity(found: SplitFigures) -> Iterator[Row]:
    yield Row("fidelity", "cosine", {"student": found.fidelity.cosine})
    yield Row("fidelity", "cosine, 5th percentile", {"student": found.fidelity.cosine_p5})
    if isinstance(found.patch, Likeness):
        yield Row("fidelity", "patch cosine", {"student": found.patch.cosine})
        yield Row("fidelity", "patch cosine, 5th percentile", {"student": found.patch.cosine_p5})
    if isinstance(found.structure, Structure):
        yield Row("fidelity", "linear CKA", _models(found.structure.cka))
        yield Row("fidelity", "mutual 10 neighbours", _models(found.structure.neighbours))
        yield Row("fidelity", "RankMe", _models(found.structure.rankme))


def _few_shot(found: SplitFigures) -> Iterator[Row]:
    for shots in sorted(found.few_shot):
        what = f"few shots, {shots} a class"
        named = found.probes.named(what) if isinstance(found.probes, Probes) else what
        yield _accuracy(named, found.few_shot[shots].accuracies)


def _scores(found: SplitFigures) -> Iterator[Row]:
    """Weighted F1 and AUROC, of UNI's protocol."""
    if not isinstance(found.probes, UniProbes):
        return
    for kind in found.probes.by_kind():
        by_model = found.probes.scores[kind]
        f1 = {name: score.weighted_f1 for name, score in by_model.items()}
        yield Row("downstream", found.probes.named(f"weighted F1, {PROBES[kind]}"), f1)
        areas = {name: score.auroc for name, score in by_model.items() if score.auroc}
        if areas:
            yield Row("downstream", found.probes.named(f"AUROC, {PROBES[kind]}"), areas)


def _slide_labels(found: SplitFigures) -> Iterator[Row]:
    if isinstance(found.slide_labels, SlideLabels):
        yield _accuracy("slide labels, attention", found.slide_labels.attention)
        moved = f"slide labels, attention, {PROBES['head_transfer']}"
        yield _accuracy(moved, found.slide_labels.head_transfer)


def _of_set(found: SplitFigures) -> Iterator[Row]:
    yield Row("fidelity", "cosine", {"student": found.fidelity.cosine})
    if isinstance(found.probes, Probes):
        for kind, table in found.probes.by_kind().items():
            yield _accuracy(found.probes.named(PROBES[kind]), table)
    yield from _scores(found)
    yield from _few_shot(found)
    if isinstance(found.dense, Dense):
        yield from _overlaps(PROBES["linear"], found.dense.linear)
        yield from _overlaps(PROBES["head_transfer"], found.dense.head_transfer)


def _overlaps(probe: str, table: Overlaps) -> Iterator[Row]:
    miou = {name: score.miou for name, score in table.scores().items()}
    yield Row("downstream", f"mIoU, dense {probe}", miou | _kept(table))
    yield Row("downstream", f"Dice, dense {probe}", {name: score.dice for name, score in table.scores().items()})


def _accuracy(what: str, table: Accuracies) -> Row:
    balanced = {name: score.balanced for name, score in table.scores().items()}
    return Row("downstream", what, balanced | _kept(table))


def _kept(table: Accuracies | Overlaps) -> dict[str, Figure]:
    both = {"kept": table.retention, "way": table.way}
    return {name: figure for name, figure in both.items() if isinstance(figure, Figure)}


def _models(found: OfModels) -> dict[str, Figure]:
    own = {"teacher": found.teacher} if found.teacher else {}
    return {**own, "student": found.student, "untrained": found.untrained}
