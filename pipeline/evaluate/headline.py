"""The figures that lead, flat and without their intervals: what `dvc metrics` shows and compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.base.figures import Figure
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.measures.robustness.results import Robustness
from pipeline.measures.split_figures import (
    MODELS,
    Accuracies,
    Dense,
    FromLabels,
    Likeness,
    Overlaps,
    Probes,
    SlideLabels,
    SplitFigures,
    Structure,
)

HEADLINE_SHOTS = (1, 4, 16)


def headline(summary: EvaluateSummary) -> dict[str, float]:
    """The primary split's; what was not measured is left out.

    Of further teachers the same, as <teacher>_…. Of data sets, the student's balanced accuracy (or mIoU) and what it
    keeps, as <set>_<split>_…. Probes by another protocol than Histill's own have its name: uni_linear_student.
    """
    found = dict(_of_lead(summary.lead)) if summary.lead else {}
    for teacher, splits in summary.also.items():
        if summary.primary is not None:
            found |= {f"{teacher}_{key}": value for key, value in _of_lead(splits[summary.primary])}
    if isinstance(summary.robustness, Robustness):
        for name, change in summary.robustness.changes.items():
            found |= {f"{name}_agreement_teacher": change.teacher.value}
            found |= {f"{name}_agreement_student": change.student.value}
    for name, of_set in summary.sets.items():
        for split, figures in of_set.splits.items():
            found |= {f"{name}_{split}_{key}": value for key, value in _of_set(figures)}
    return found


def _of_lead(found: SplitFigures) -> Iterator[tuple[str, float]]:
    whole = found.fidelity
    yield "cosine", whole.cosine.value
    yield "cosine_p5", whole.cosine_p5.value
    yield "cosine_raw", whole.raw.value
    yield "cosine_raw_constant", whole.raw.floors["constant"]
    if isinstance(found.patch, Likeness):
        yield "patch_cosine", found.patch.cosine.value
        yield "patch_cosine_p5", found.patch.cosine_p5.value
    if isinstance(found.structure, Structure):
        shape = found.structure
        yield "cka", shape.cka.student.value
        yield "neighbours", shape.neighbours.student.value
        yield "rankme", shape.rankme.student.value
        if shape.rankme.teacher:
            yield "rankme_teacher", shape.rankme.teacher.value
    if isinstance(found.probes, Probes):
        for kind, table in found.probes.by_kind().items():
            yield from _accuracies(prefixed(found.probes, kind), table)
        for shots in HEADLINE_SHOTS:
            if shots in found.few_shot:
                yield from _accuracies(prefixed(found.probes, f"shots_{shots}"), found.few_shot[shots].accuracies)
    if isinstance(found.slide_labels, SlideLabels):
        yield from _accuracies("slide_labels", found.slide_labels.attention)
        yield from _accuracies("slide_labels_head_transfer", found.slide_labels.head_transfer)
    yield from _labels(found)
    for k, width in found.nested.items():
        yield f"nested_{k}_cosine", width.nested.cosine.value
        yield f"nested_{k}_cosine_teacher_pca", width.teacher_pca.cosine.value
        if width.nested.linear and width.teacher_pca.linear:
            yield f"nested_{k}_linear", width.nested.linear.balanced.value
            yield f"nested_{k}_linear_teacher_pca", width.teacher_pca.linear.balanced.value


def _of_set(found: SplitFigures) -> Iterator[tuple[str, float]]:
    """One split of a data set: the probes that it has."""
    yield "cosine", found.fidelity.cosine.value
    if isinstance(found.probes, Probes):
        for kind, table in found.probes.by_kind().items():
            yield from _accuracies(prefixed(found.probes, kind), table)
    if isinstance(found.dense, Dense):
        for kind, overlaps in (("linear", found.dense.linear), ("head_transfer", found.dense.head_transfer)):
            yield from _models(f"dense_{kind}", {name: score.miou for name, score in overlaps.scores().items()})
            yield from _kept(f"dense_{kind}", overlaps)
    yield from _labels(found)


def prefixed(probes: Probes, name: str) -> str:
    """The name of a figure of these probes, with their protocol where it is not Histill's own."""
    return name if probes.protocol == "histill" else f"{probes.protocol}_{name}"


def _labels(found: SplitFigures) -> Iterator[tuple[str, float]]:
    """The distilled student, the same net from the labels alone, and the difference, for each number of labels."""
    for k, row in found.from_labels.items():
        if isinstance(row, FromLabels):
            yield f"labels_{k}_student", row.accuracies.student.balanced.value
            yield f"labels_{k}_from_labels", row.from_labels.balanced.value
            yield f"labels_{k}_gain", row.gain.value


def _accuracies(prefix: str, table: Accuracies) -> Iterator[tuple[str, float]]:
    yield from _models(prefix, {name: score.balanced for name, score in table.scores().items()})
    yield from _kept(prefix, table)


def _models(prefix: str, figures: Mapping[str, Figure]) -> Iterator[tuple[str, float]]:
    for model in MODELS:
        yield f"{prefix}_{model}", figures[model].value


def _kept(prefix: str, table: Accuracies | Overlaps) -> Iterator[tuple[str, float]]:
    if isinstance(table.way, Figure):
        yield f"{prefix}_way", table.way.value
    if isinstance(table.retention, Figure):
        yield f"{prefix}_retention", table.retention.value
        yield f"{prefix}_retention_untrained", table.retention.floors["untrained"]
