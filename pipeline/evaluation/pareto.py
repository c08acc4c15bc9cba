"""Accuracy against latency over every student made so far: which of them nobody beats in both.

Students come from the workspace, from every branch and from every DVC experiment: their dvc.lock names the manifests of
`evaluate` and `benchmark`, and DVC's cache holds them. Git and files are read, never DVC itself, whose locks the stage
that asks may hold; `metrics/` would not do, since git does not track it.

Latency is a share of the teacher's, taken from the run that measured both: milliseconds of two runs or machines do not
compare, and a ratio is only ever taken from one run. Accuracy only compares between students of one teacher on the same
held-out slides, so that others are left out, and counted.

Two students of one network (name, parameters, GMACs, input) are equally fast whatever their runs measured: for the
front both take the median of what was measured of that network, so that noise puts no worse twin on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import ValidationError

from pipeline.evaluation.tables import write_csv
from pipeline.housekeeping import cached_file, locked_manifests, locks
from pipeline.manifest import Manifest

ACCURACIES = {"linear_student": "linear_teacher", "knn_student": "knn_teacher", "cosine": ""}
"""Figures of a student, in the order in which one is chosen for the front, and the teacher's beside it."""
COLUMNS = (
    "name", "student", "relative_time", "ms_a_tile", "latency_ms", "tiles_per_s", *ACCURACIES, "on_front", "time_low",
    "time_high",
)  # fmt: skip
"""Of pareto.csv; time_low to time_high is the 95 % interval of relative_time, empty where its run has none."""


@dataclass(frozen=True)
class Study:
    """One student's manifests and the place that names it: `workspace`, a branch, or an experiment."""

    name: str
    evaluate: Manifest
    benchmark: Manifest
    student: Manifest | None = None
    """For what differs in how they were trained; the front does without it."""

    @property
    def protocol(self) -> str:
        """What has to be equal for accuracies to be comparable: teacher, held-out slides and the split they are of."""
        held_out = sorted(item.key for item in self.evaluate.items)
        return repr((self.benchmark.recipe.get("teacher"), self.evaluate.summary["primary"], held_out))


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
    comparable = [study for study in studies if study.protocol == first.protocol]
    left_out = [f"{s.name}: another teacher, or other held-out slides" for s in studies if s not in comparable]
    accuracy = next((key for key in ACCURACIES if first.evaluate.summary.get(key) is not None), None)
    if accuracy:
        lacking = [study for study in comparable if study.evaluate.summary.get(accuracy) is None]
        left_out += [f"{study.name}: {accuracy} was not measured" for study in lacking]
        comparable = [study for study in comparable if study not in lacking]
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


def gather(root: Path, workspace: Study | None = None) -> list[Study]:
    """The workspace's study where it has one, then those of all branches, tags and experiments of the checkout.

    A pair of manifests that several places name is taken once, under the first name; the workspace goes first, and an
    experiment that it was applied from is dropped for it. What DVC's cache does not hold is left out.
    """
    found = [] if workspace is None else [workspace]
    for place, lock in locks(root):
        if place == "workspace" or place.startswith("exps/exec/"):
            continue
        md5s = dict(locked_manifests(lock))
        manifests = {
            stage: _cached(root, md5s.get(f"artifacts/{stage}.json", ""))
            for stage in ("evaluate", "benchmark", "student")
        }
        evaluate, benchmark = manifests["evaluate"], manifests["benchmark"]
        if evaluate and benchmark:
            # refs/exps/<2 hex>/<38 hex>/<name>
            name = place.split("/", 3)[-1] if place.startswith("exps/") else place
            study = Study(name, evaluate, benchmark, manifests["student"])
            if not any((study.evaluate, study.benchmark) == (s.evaluate, s.benchmark) for s in found):
                found.append(study)
    return found


def write_pareto(found: Pareto, path: Path) -> None:
    """Write the rows as CSV, for `dvc plots`."""
    write_csv(path, COLUMNS, found.rows)


def _cached(root: Path, md5: str) -> Manifest | None:
    """A manifest from DVC's cache; None where it is not there, or of another version."""
    path = cached_file(root, md5)
    if not md5 or not path.is_file():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError:
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
