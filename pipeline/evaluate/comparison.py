"""Teacher, student and the student's untrained twin on one body of tiles: the slides, or one labelled data set.

The same comparison for each: fidelity on every held-out split, and where there are labels the probes, fitted on the
split `train`. What cannot be computed is left out, and `why` says so, `figure, split`: the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pipeline.base.errors import EvaluationError
from pipeline.base.intervals import Floats
from pipeline.base.items import TRAIN
from pipeline.base.progress import Advance
from pipeline.base.store import Store
from pipeline.evaluate import features, selection
from pipeline.evaluate.fidelity.embedding import Scale, fidelity
from pipeline.evaluate.fidelity.patch import patch_fidelity
from pipeline.evaluate.fidelity.structure import structure, too_few
from pipeline.evaluate.labels.from_labels import against_labels, training_tiles
from pipeline.evaluate.probes.few_shot import few_shot, shots_possible
from pipeline.evaluate.probes.mil import Bags, slide_probe, unmeasurable_slides
from pipeline.evaluate.probes.probes import Labelled, probe, unmeasurable
from pipeline.evaluate.selection import Sample
from pipeline.evaluate.trust.cautions import of_classes, of_slides, of_thin_bags, of_tiles, of_weak_teacher
from pipeline.params.evaluate import EvaluateParams
from pipeline.student.exported import Dense, load_dense, load_student, untrained_twin
from pipeline.tokens.item.reader import TokenReader

Answers = dict[str, dict[str, Floats]]
"""{split: {model: (N, D)}}."""


@dataclass(frozen=True)
class Models:
    """The student as exported to `folder`, its untrained twin; `dense`: both with their adapters, where it has one."""

    folder: Path
    student: nn.Module
    untrained: nn.Module
    dense: Mapping[str, Dense]

    @classmethod
    def load(cls, folder: Path, width: int, seed: int) -> Models:
        """From `models/student/`. Raises `EvaluationError` where it does not answer in the teacher's width."""
        student, twin = load_student(folder), untrained_twin(folder, seed)
        if getattr(student, "num_classes", None) != width:
            what = f"answers in {getattr(student, 'num_classes', None)} channels, the teacher in {width}"
            raise EvaluationError(what, where=str(folder), fix="dvc repro student")
        dense = {
            "student": load_dense(folder, student),
            "untrained": load_dense(folder, twin, trained=False, seed=seed),
        }
        return cls(folder, student, twin, {name: model for name, model in dense.items() if model is not None})


@dataclass
class Comparison:
    """What was found, each {split: figures}; see the modules that make them."""

    fidelity: dict[str, Any] = field(default_factory=dict)
    probes: dict[str, Any] = field(default_factory=dict)
    few_shot: dict[str, Any] = field(default_factory=dict)
    from_labels: dict[str, Any] = field(default_factory=dict)
    slide_labels: dict[str, Any] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    uses: list[str] = field(default_factory=list)
    """Store items that the figures stand on besides the tiles' and tokens'."""


def compare(
    models: Models,
    train: Sequence[Sample],
    held: Mapping[str, Sequence[Sample]],
    params: EvaluateParams,
    store: Store,
    advance: Advance,
) -> Comparison:
    """Everything that these tiles can tell; `held` is bounded already (`selection.spread`)."""
    found = Comparison()
    scale = Scale.of(features.teacher_features(selection.spread(train, params.max_probe_tiles)))
    fit_on = selection.spread(selection.worth_fitting(train), params.max_probe_tiles)
    for split, chosen in held.items():
        labels = [selection.label_of_tiles(selection.labelled(part)) for part in (fit_on, chosen)]
        slides = [[sample.slide_label for sample in part] for part in (fit_on, chosen)]
        for figure, reason in (
            ("probes", unmeasurable(labels[0], labels[1])),
            ("slide_labels", unmeasurable_slides(slides[0], slides[1])),
        ):
            if reason:
                found.why[f"{figure}, {split}"] = reason
    wanted = any(f"{figure}, {split}" not in found.why for figure in ("probes", "slide_labels") for split in held)
    answers = _answers(models, {TRAIN: fit_on, **held} if wanted else held, params, advance)
    fitted, probed = _labelled(fit_on, answers.get(TRAIN, {})), dict[str, Labelled]()
    for split, chosen in held.items():
        found.fidelity[split] = _fidelity(answers[split], chosen, scale, params, found, split)
        found.fidelity[split]["patch"] = _patch(models, chosen, params, found, split, advance)
        if f"probes, {split}" not in found.why:
            compared = probed[split] = _labelled(chosen, answers[split])
            found.probes[split] = probe(fitted, compared, params.knn_k, params.bootstrap, params.seed)
            found.warnings += of_tiles(split, train, chosen, len(fitted.labels), params.knn_k)
            found.warnings += of_classes(f"probes of {split}", fitted.labels, compared.labels)
            _judge(found, split, {kind: found.probes[split][kind] for kind in ("linear", "knn")}, found.probes[split])
            if shots_possible(fitted.labels):
                found.few_shot[split] = few_shot(fitted, compared, params.episodes, params.bootstrap, params.seed)
        if f"slide_labels, {split}" not in found.why:
            bags = _bags(fit_on, answers[TRAIN]), _bags(chosen, answers[split])
            found.slide_labels[split] = slide_probe(*bags, params.mil_epochs, params.bootstrap, params.seed)
            found.warnings += of_slides(split, train, chosen, found.slide_labels[split]["n"])
            found.warnings += of_classes(f"slide labels of {split}", *(part.labels for part in bags))
            _judge(found, split, {"slide labels": found.slide_labels[split]}, found.slide_labels[split])
            found.warnings += [w for w in of_thin_bags({TRAIN: fit_on, split: chosen}) if w not in found.warnings]
    if params.from_labels and probed:
        told = against_labels(
            models.folder,
            selection.labelled(fit_on),
            {split: selection.labelled(held[split]) for split in probed},
            fitted,
            probed,
            params,
            store,
            advance,
        )
        found.from_labels, found.uses = told.splits, told.uses
        found.why |= told.why
    return found


def _judge(found: Comparison, split: str, rows: Mapping[str, Any], floors: Mapping[str, Any]) -> None:
    """Warn where what the student keeps of these figures says little, and say why where there is no such figure."""
    for name, row in rows.items():
        found.warnings += of_weak_teacher(f"{name} of {split}", row, floors["majority"], "balanced_accuracy")
        if row["retention"] is None:
            found.why[f"retention of {name}, {split}"] = "in some resamples the teacher itself gets nothing right"


def spare_tiles(held: Mapping[str, Sequence[Sample]], train: Sequence[Sample], params: EvaluateParams) -> int:
    """Tiles that `compare` will have looked at, at most: for the progress bar."""
    fitted = min(params.max_probe_tiles, selection.count(selection.worth_fitting(train)))
    looked = sum(selection.count(s) + min(params.max_dense_tiles, selection.count(s)) for s in held.values())
    return fitted + looked + training_tiles(params)


def _answers(models: Models, work: Mapping[str, Sequence[Sample]], params: EvaluateParams, advance: Advance) -> Answers:
    answers: Answers = {}
    for split, chosen in work.items():
        both = features.student_features([models.student, models.untrained], chosen, params.batch_size, advance)
        answers[split] = {"teacher": features.teacher_features(chosen), "student": both[0], "untrained": both[1]}
    return answers


def _fidelity(
    answers: Mapping[str, Floats],
    chosen: Sequence[Sample],
    scale: Scale,
    params: EvaluateParams,
    found: Comparison,
    split: str,
) -> dict[str, Any]:
    """The global embedding's figures, with those of the untrained twin as floor; `structure` null with its reason."""
    slide_N = selection.slide_of_tiles(chosen)
    figures = fidelity(answers["teacher"], answers["student"], slide_N, scale, params.bootstrap, params.seed)
    # Evenly spread, as everywhere: every so manieth tile.
    at = np.unique(np.linspace(0, len(slide_N) - 1, min(params.max_dense_tiles, len(slide_N))).astype(np.int64))
    reason = too_few(len(at))
    if reason:
        found.why[f"structure, {split}"] = reason
        return figures | {"structure": None}
    space = {name: scale(x_ND[at]) for name, x_ND in answers.items()}
    others = {name: space[name] for name in ("student", "untrained")}
    names = [slide_N[i] for i in at.tolist()]
    return figures | {"structure": structure(space["teacher"], others, names, params.bootstrap, params.seed)}


def _patch(
    models: Models, chosen: Sequence[Sample], params: EvaluateParams, found: Comparison, split: str, advance: Advance
) -> dict[str, Any] | None:
    """The dense tokens' figures, or None with the reason."""
    reason = unmeasurable_patch(models, chosen)
    if reason:
        found.why[f"patch, {split}"] = reason
        return None
    sample, student = selection.spread(chosen, params.max_dense_tiles), {"student": models.dense["student"]}

    def pairs() -> Iterator[tuple[Floats, Floats]]:
        for batch in features.dense_features(student, sample, params.batch_size, advance):
            yield batch["teacher"], batch["student"]

    reader, names = TokenReader(sample[0].tokens), selection.slide_of_tiles(sample)
    return patch_fidelity(pairs(), reader.mu, reader.sigma, names, params.bootstrap, params.seed)


def unmeasurable_patch(models: Models, chosen: Sequence[Sample]) -> str | None:
    """Why dense tokens cannot be compared, or None."""
    if "student" not in models.dense:
        return "the student has no dense adapter (student.objective.patch is 0)"
    if TokenReader(chosen[0].tokens).layout == "none":
        return "the cache holds no patch tokens (tokens.patch is none)"
    return None


def _labelled(samples: Sequence[Sample], answers: Mapping[str, Floats]) -> Labelled:
    """The tiles that have a label, with every model's features."""
    labels = [label for sample in samples for label in sample.labels]
    every = Labelled([str(label) for label in labels], selection.slide_of_tiles(samples), answers)
    return every.only(np.array([label is not None for label in labels], dtype=np.bool_))


def _bags(samples: Sequence[Sample], answers: Mapping[str, Floats]) -> Bags:
    """The slides that have a label, each with every model's features of its tiles."""
    ends = np.cumsum([0, *(len(sample.rows) for sample in samples)])
    kept = [(i, sample.slide_label) for i, sample in enumerate(samples) if sample.slide_label is not None]
    features_of = {name: [x_ND[ends[i] : ends[i + 1]] for i, _ in kept] for name, x_ND in answers.items()}
    return Bags([label for _, label in kept], features_of)
