"""Accuracy against latency over every student made so far: which of them nobody beats in both.

Students come from the workspace, from every branch and from every DVC experiment: their dvc.lock names the manifests of
`evaluate` and `benchmark`, and DVC's cache holds them. Git and files are read, never DVC itself, whose locks the stage
that asks may hold; `metrics/` would not do, since git does not track it.

Latency is a share of the teacher's, taken from the run that measured both: milliseconds of two runs do not compare, and
a ratio is only ever taken from one run. Even that share is another one on another machine, in another precision or at
other batch sizes. Accuracy only compares between students of one teacher on the same held-out tiles. What does not
compare is left out, and named with the reason.

Two students of one network (name, parameters, GMACs, input) are equally fast whatever their runs measured: for the
front both take the median of what was measured of that network, so that noise puts no worse twin on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline.base.errors import ManifestError
from pipeline.base.files import write_csv
from pipeline.base.items import StudentManifest
from pipeline.base.manifest import Outline
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.report.verdict import measured_on
from pipeline.upkeep.housekeeping import cached_file, locked_manifests, locks

ACCURACIES = {"linear_student": "linear_teacher", "knn_student": "knn_teacher", "cosine": ""}
"""Figures of a student, in the order in which one is chosen for the front, and the teacher's beside it."""
COLUMNS = (
    "name", "student", "relative_time", "ms_a_tile", "latency_ms", "tiles_per_s", *ACCURACIES, "on_front", "time_low",
    "time_high",
)  # fmt: skip
"""Of pareto.csv; time_low to time_high is the 95 % interval of relative_time, empty where its run has none."""


_EXPERIMENT = re.compile(r"exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")
"""The ref of an experiment: the commit that it started from, and its name."""


@dataclass(frozen=True)
class Study:
    """One student's manifests and the place that names it: `workspace`, a branch, or an experiment."""

    name: str
    evaluate: EvaluateManifest
    benchmark: BenchmarkManifest
    student: StudentManifest | None = None
    """For what differs in how they were trained; the front does without it."""

    def require_version(self) -> None:
        """Raise `ManifestError` where another version of Histill wrote what is shown of it."""
        EvaluateManifest.require_form(self.evaluate, f"{self.name}, evaluate.json")
        BenchmarkManifest.require_form(self.benchmark, f"{self.name}, benchmark.json")

    @property
    def of_one_student(self) -> bool:
        """Whether the student that was evaluated is the one that was timed.

        An experiment that ran as far as `evaluate` has a dvc.lock with the benchmark of the student before it.
        """
        return bool(self.evaluate.recipe.get("student") == self.benchmark.recipe.get("student"))

    @property
    def protocol(self) -> str:
        """What has to be equal for accuracies to be comparable: teacher, held-out tiles and the split they are of."""
        held_out = sorted((item.key, item.n) for item in self.evaluate.items)
        return repr((self.benchmark.recipe.get("teacher"), self.evaluate.summary["primary"], held_out))

    @property
    def timed_on(self) -> str:
        """What has to be equal for shares of the teacher's time to be comparable, in words."""
        speed = self.benchmark.summary
        batches = ", ".join(str(row["batch"]) for row in speed["teacher"]["rows"])
        n = speed["machine"]["threads"]
        cores = f", {n} {'thread' if n == 1 else 'threads'}" if speed["device"] == "cpu" else ""
        return f"{measured_on(speed)}{cores}, {speed['engine']} {speed['precision']}, batches of {batches}"


@dataclass(frozen=True)
class Pareto:
    """Rows of `COLUMNS`, the teacher's first, then students by time; `accuracy` is the figure that the front is of."""

    rows: tuple[dict[str, Any], ...]
    accuracy: str | None
    left_out: tuple[str, ...]
    """Studies that do not compare, with why."""


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


def pareto(studies: Sequence[Study]) -> Pareto:
    """The comparison of all studies with the first: its teacher is the reference, and its protocol counts."""
    first = studies[0]
    accuracy = next((key for key in ACCURACIES if first.evaluate.summary.get(key) is not None), None)
    reasons = [_incomparable(study, first, accuracy) for study in studies]
    comparable = [study for study, why in zip(studies, reasons, strict=True) if not why]
    left_out = [f"{study.name}: {why}" for study, why in zip(studies, reasons, strict=True) if why]
    found = [(_row(study), _network(study)) for study in comparable]
    found.sort(key=lambda pair: (pair[0]["relative_time"], pair[0]["name"]))
    rows = [row for row, _ in found]
    if accuracy:
        times: dict[tuple[Any, ...], list[float]] = {}
        for row, network in found:
            times.setdefault(network, []).append(row["relative_time"])
        flags = front([(median(times[network]), row[accuracy]) for row, network in found])
        rows = [{**row, "on_front": flag} for row, flag in zip(rows, flags, strict=True)]
    return Pareto((_teacher_row(first), *rows), accuracy, tuple(left_out))


def _incomparable(study: Study, first: Study, accuracy: str | None) -> str | None:
    """Why a study does not compare with the first one, or None."""
    try:
        study.require_version()
    except ManifestError:
        return "another version of Histill wrote it"
    if not study.of_one_student:
        return "its benchmark is of another student than its evaluation"
    if study.protocol != first.protocol:
        return "another teacher, or other held-out tiles"
    if study.timed_on != first.timed_on:
        return f"timed on {study.timed_on}, not on {first.timed_on}"
    if accuracy and study.evaluate.summary.get(accuracy) is None:
        return f"{accuracy} was not measured"
    return None


def gather(root: Path, workspace: Study | None = None) -> list[Study]:
    """The workspace's study where it has one, then those of all branches, tags and experiments of the checkout.

    A pair of manifests that several places name is taken once, under the first name; the workspace goes first, and an
    experiment that it was applied from is dropped for it. What DVC's cache does not hold is left out.
    """
    found = [] if workspace is None else [workspace]
    for place, lock in locks(root):
        experiment = _EXPERIMENT.fullmatch(place)
        if place == "workspace" or (place.startswith("exps/") and not experiment):
            # Of DVC's own refs: what runs, what waits in a queue, what it put aside.
            continue
        md5s = dict(locked_manifests(lock))
        evaluate, benchmark = _cached(EvaluateManifest, root, md5s), _cached(BenchmarkManifest, root, md5s)
        if evaluate and benchmark:
            student = _cached(StudentManifest, root, md5s)
            study = Study(experiment[1] if experiment else place, evaluate, benchmark, student)
            if not any((study.evaluate, study.benchmark) == (s.evaluate, s.benchmark) for s in found):
                found.append(study)
    return found


def write_pareto(found: Pareto, path: Path) -> None:
    """Write the rows as CSV, for `dvc plots`."""
    write_csv(path, COLUMNS, found.rows)


Kind = TypeVar("Kind", EvaluateManifest, BenchmarkManifest, StudentManifest)


def _cached(kind: type[Kind], root: Path, md5s: Mapping[str, str]) -> Kind | None:
    """A manifest from DVC's cache; None where it is not there or is none; of another form its outline alone."""
    md5 = md5s.get(f"artifacts/{kind.made_by()}.json", "")
    path = cached_file(root, md5)
    if not md5 or not path.is_file():
        return None
    try:
        outline = Outline.model_validate_json(path.read_bytes())
        return kind.load(path) if outline.version == kind.form() else kind.model_construct(**dict(outline))
    except (ManifestError, ValidationError):
        return None


def _row(study: Study) -> dict[str, Any]:
    summary, speed = study.evaluate.summary, study.benchmark.summary
    accuracies = {key: summary.get(key) for key in ACCURACIES}
    return {
        "name": study.name,
        "student": speed["student"]["name"],
        "relative_time": speed["teacher"]["tiles_per_s"] / speed["student"]["tiles_per_s"],
        **_times(speed["student"]),
        **accuracies,
        "on_front": False,
        **dict(zip(("time_low", "time_high"), time_interval(speed), strict=True)),
    }


def _network(study: Study) -> tuple[Any, ...]:
    """What makes two students equally fast."""
    speed = study.benchmark.summary["student"]
    return tuple(speed[key] for key in ("name", "params", "gmacs", "input_px"))


def time_interval(speed: Mapping[str, Any]) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval of the student's time as a share of the teacher's, where the benchmark has one."""
    low, high = speed.get("speedup_interval") or (None, None)
    return (1 / high, 1 / low) if low and high else (None, None)


def _teacher_row(study: Study) -> dict[str, Any]:
    """The reference, as the workspace measured it: it is no student, and on no front."""
    summary, speed = study.evaluate.summary, study.benchmark.summary["teacher"]
    accuracies: dict[str, Any] = {key: summary.get(of_teacher) for key, of_teacher in ACCURACIES.items()}
    head = {"name": "teacher", "student": speed["name"], "relative_time": 1.0}
    return {
        **head,
        **_times(speed),
        **accuracies,
        "cosine": 1.0,
        "on_front": False,
        "time_low": None,
        "time_high": None,
    }


def _times(model: Mapping[str, Any]) -> dict[str, float]:
    """Time a tile at the best batch size, and the latency of the smallest batch."""
    rate = model["tiles_per_s"]
    return {"ms_a_tile": 1e3 / rate, "latency_ms": model["rows"][0]["latency_ms_p50"], "tiles_per_s": rate}
