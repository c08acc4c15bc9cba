"""Accuracy against latency over every student made so far: which of them nobody beats in both.

Latency is a share of the teacher's, taken from the run that measured both: milliseconds of two runs do not compare, and
a ratio is only ever taken from one run. Even that share is another one on another machine, in another precision or at
other batch sizes. Accuracy only compares between students of one teacher on the same held-out tiles. What does not
compare is left out, and named with the reason.

Two students of one network (name, parameters, GMACs, input) are equally fast whatever their runs measured: for the
front both take the median of what was measured of that network, so that noise puts no worse twin on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Literal

from pipeline.base.files import write_csv
from pipeline.benchmark.results import Benchmark, Costs, Role
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.measures.split_figures import Probes
from pipeline.report.across.students import Known, Study

Measure = Literal["linear_student", "knn_student", "cosine"]
MEASURES: Mapping[Measure, str] = {
    "linear_student": "balanced accuracy, linear probe",
    "knn_student": "balanced accuracy, kNN",
    "cosine": "standardised cosine",
}
"""Accuracies of a student, by their columns in pareto.csv, in the order in which one is chosen for the front."""


@dataclass(frozen=True)
class ParetoRow:
    """One row of pareto.csv; `time_low` to `time_high` is the 95 % interval of `relative_time`, where its run has one.

    An accuracy that was not measured is None.
    """

    name: str
    student: str
    relative_time: float
    ms_a_tile: float
    latency_ms: float
    tiles_per_s: float
    linear_student: float | None
    knn_student: float | None
    cosine: float | None
    on_front: bool
    time_low: float | None
    time_high: float | None

    def accuracy(self, measure: Measure) -> float | None:
        """One of the accuracies."""
        return {"linear_student": self.linear_student, "knn_student": self.knn_student, "cosine": self.cosine}[measure]


@dataclass(frozen=True)
class Pareto:
    """The teacher, then students by time; `measure` is the accuracy that the front is of."""

    teacher: ParetoRow
    students: tuple[ParetoRow, ...]
    measure: Measure | None
    left_out: tuple[str, ...]
    """Students that do not compare, with why."""

    @property
    def rows(self) -> tuple[ParetoRow, ...]:
        """All, the teacher first."""
        return (self.teacher, *self.students)


_RUN_ON = "stopped before? `dvc exp apply` it, then `dvc repro evaluate benchmark`"


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (cost, value) whether it is on the Pareto front: no other is as cheap and as good, and better in one.

    Equal points are on it together or not at all.
    """
    on_front, best = [False] * len(points), float("-inf")
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    kept: tuple[float, float] | None = None
    for i in order:
        if points[i][1] > best or points[i] == kept:
            on_front[i], best, kept = True, points[i][1], points[i]
    return on_front


def pareto(known: Known) -> Pareto:
    """The comparison of all studies with the first: its teacher is the reference, and its protocol counts."""
    first = next((study for study in known.studies if study.evaluated and study.timed), known.studies[0])
    own = _accuracies(first.evaluate.summary, "student")
    measure = next((measure for measure in MEASURES if own[measure] is not None), None)
    reasons = [_incomparable(study, first, measure) for study in known.studies]
    comparable = [study for study, why in zip(known.studies, reasons, strict=True) if not why]
    left_out = [f"{study.name}: {why}" for study, why in zip(known.studies, reasons, strict=True) if why]
    left_out += [f"{name}: {error.what}" for name, error in known.unread.items()]
    found = [(_row(study), _network(study)) for study in comparable]
    found.sort(key=lambda pair: (pair[0].relative_time, pair[0].name))
    rows = [row for row, _ in found]
    if measure:
        times: dict[Costs, list[float]] = {}
        for row, network in found:
            times.setdefault(network, []).append(row.relative_time)
        flags = front([(median(times[network]), row.accuracy(measure) or 0.0) for row, network in found])
        rows = [replace(row, on_front=flag) for row, flag in zip(rows, flags, strict=True)]
    return Pareto(_teacher_row(first), tuple(rows), measure, tuple(left_out))


def _incomparable(study: Study, first: Study, measure: Measure | None) -> str | None:
    """Why a study does not compare with the first one, or None."""
    if not study.evaluated:
        return f"its evaluation is of another student's weights, and not shown: {_RUN_ON}"
    if not study.timed:
        return f"its benchmark is of another student's weights, and not shown: {_RUN_ON}"
    if not study.of_one_student:
        return "its benchmark is of another student than its evaluation"
    if study.protocol != first.protocol:
        return "another teacher, other held-out tiles or another protocol"
    if study.timed_on != first.timed_on:
        return f"timed on {study.timed_on}, not on {first.timed_on}"
    if measure and _accuracies(study.evaluate.summary, "student")[measure] is None:
        return f"{measure} was not measured"
    return None


def write_pareto(found: Pareto, path: Path) -> None:
    """Write the rows as CSV, for `dvc plots`."""
    write_csv(path, [field.name for field in fields(ParetoRow)], map(asdict, found.rows))


def _accuracies(summary: EvaluateSummary, model: Literal["teacher", "student"]) -> dict[Measure, float | None]:
    """Of the primary split; the cosine is the student's."""
    found = summary.lead
    scores: dict[Measure, float | None] = {"linear_student": None, "knn_student": None, "cosine": None}
    if found:
        scores["cosine"] = found.fidelity.cosine.value
        if isinstance(found.probes, Probes):
            scores["linear_student"] = found.probes.linear.scores()[model].balanced.value
            scores["knn_student"] = found.probes.knn.scores()[model].balanced.value
    return scores


def _row(study: Study) -> ParetoRow:
    speed = study.benchmark.summary
    low, high = time_interval(speed)
    share = 1 / speed.speedup.value
    accuracies = _accuracies(study.evaluate.summary, "student")
    return replace(_timed(speed, "student", share, accuracies), name=study.name, time_low=low, time_high=high)


def _network(study: Study) -> Costs:
    """What makes two students equally fast."""
    return study.benchmark.summary.models["student"]


def time_interval(benchmark: Benchmark) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval of the student's time as a share of the teacher's, where the benchmark has one."""
    ends = benchmark.speedup.span
    return (1 / ends.high, 1 / ends.low) if ends else (None, None)


def _teacher_row(study: Study) -> ParetoRow:
    """The reference, as the workspace measured it: it is no student, and on no front."""
    accuracies = {**_accuracies(study.evaluate.summary, "teacher"), "cosine": 1.0}
    return _timed(study.benchmark.summary, "teacher", 1.0, accuracies)


def _timed(speed: Benchmark, model: Role, share: float, accuracies: Mapping[Measure, float | None]) -> ParetoRow:
    """Time a tile at the best batch size, and the latency of the smallest batch."""
    lead = speed.lead(model)
    return ParetoRow(
        name=model,
        student=speed.models[model].name,
        relative_time=share,
        ms_a_tile=1e3 / lead.best.tiles_per_s,
        latency_ms=lead.rows[0].latency_ms_p50,
        tiles_per_s=lead.best.tiles_per_s,
        linear_student=accuracies["linear_student"],
        knn_student=accuracies["knn_student"],
        cosine=accuracies["cosine"],
        on_front=False,
        time_low=None,
        time_high=None,
    )
