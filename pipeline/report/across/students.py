"""Every student made so far: the workspace's, and those of all branches, tags and DVC experiments.

Their dvc.lock names the manifests of `evaluate` and `benchmark`, and DVC's cache holds them. `metrics/`
would not do, since git does not track it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.base.errors import HistillError, ManifestError, UnknownNames
from pipeline.base.items import StudentManifest
from pipeline.base.manifest import Item, Manifest
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.report.verdict import measured_on
from pipeline.upkeep.checkout import Checkout, locked_manifests

WORKSPACE = "workspace"
WEIGHTS_FILE = "model.safetensors"
_EXPERIMENT = re.compile(r"exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")
"""The ref of an experiment: the commit that it started from, and its name."""
Kind = TypeVar("Kind", EvaluateManifest, BenchmarkManifest, StudentManifest)


@dataclass(frozen=True)
class Study:
    """One student's manifests and the place that names it: `workspace`, a branch, or an experiment."""

    name: str
    evaluate: EvaluateManifest
    benchmark: BenchmarkManifest
    student: StudentManifest | None = None
    """For what differs in how they were trained; the front does without it."""

    @property
    def weights(self) -> str | None:
        """The digest of its student's weights; None where student.json is not known, or names none."""
        files = self.student.items if self.student else ()
        return next((file.digest for file in files if file.id == WEIGHTS_FILE), None)

    @property
    def evaluated(self) -> bool:
        """Whether its evaluation is of its own weights: an experiment stopped before has that of the student before."""
        return self.weights in (None, self.evaluate.recipe.get("student"))

    @property
    def timed(self) -> bool:
        """Whether its benchmark is of its own weights."""
        return self.weights in (None, self.benchmark.recipe.get("student"))

    @property
    def of_one_student(self) -> bool:
        """Whether the student that was evaluated is the one that was timed.

        An experiment that ran as far as `evaluate` has a dvc.lock with the benchmark of the student before it.
        """
        return bool(self.evaluate.recipe.get("student") == self.benchmark.recipe.get("student"))

    @property
    def protocol(self) -> str:
        """What has to be equal for accuracies to be comparable: teacher, held-out tiles, split and protocol."""
        held_out, found = sorted((item.key, item.n) for item in self.evaluate.items), self.evaluate.summary
        return repr((self.benchmark.recipe.get("teacher"), found.primary, found.protocol, held_out))

    @property
    def timed_on(self) -> str:
        """What has to be equal for shares of the teacher's time to be comparable, in words."""
        speed = self.benchmark.summary
        lead, n = speed.lead("teacher"), speed.machine.threads
        batches = ", ".join(str(row.batch) for row in lead.rows)
        cores = f", {n} {'thread' if n == 1 else 'threads'}" if lead.device == "cpu" else ""
        return f"{measured_on(speed)}{cores}, {lead.engine} {lead.precision}, batches of {batches}"


@dataclass(frozen=True)
class Known:
    """The students that are known; `unread` are the places that cannot be read (`git`: all of them), with why."""

    studies: tuple[Study, ...]
    unread: Mapping[str, HistillError]


def gather(root: Path, workspace: Study | None = None) -> Known:
    """The workspace's study where it has one, then those of all branches, tags and experiments of the checkout.

    Results of one student that several places name are taken once, under the first name; the workspace goes first, and
    an experiment that it was applied from is dropped for it. What DVC's cache does not hold is left out.
    """
    found = [] if workspace is None else [workspace]
    unread: dict[str, HistillError] = {}
    checkout = Checkout(root)
    read = Cache(checkout)
    try:
        places = list(checkout.locks())
    except UnknownNames as error:
        places, unread["git"] = [], error
    for place, lock in places:
        experiment = _EXPERIMENT.fullmatch(place)
        if place == WORKSPACE or (place.startswith("exps/") and not experiment):
            # Of DVC's own refs: what runs, what waits in a queue, what it put aside.
            continue
        name, md5s = experiment[1] if experiment else place, locked_manifests(lock)
        try:
            study = _study(name, read, md5s)
        except ManifestError as error:
            unread[name] = error
            continue
        if study and not any(_same(study, other) for other in found):
            found.append(study)
    return Known(tuple(found), unread)


def _same(one: Study, other: Study) -> bool:
    """Whether two places name one student's results."""
    same = (one.evaluate, one.benchmark) == (other.evaluate, other.benchmark)
    return same and (None in (one.weights, other.weights) or one.weights == other.weights)


class Cache:
    """DVC's cache of a checkout; a manifest that fifty experiments name is read once, and is one object to all."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self._read: dict[tuple[str, str], Manifest[Item, object] | ManifestError | None] = {}

    def manifest(self, kind: type[Kind], name: str, md5s: Mapping[str, str]) -> Kind | None:
        """The manifest of that kind; None where it is not there. Raises `ManifestError` for another form."""
        file = f"artifacts/{kind.made_by()}.json"
        key = file, md5s.get(file, "")
        if key not in self._read:
            path = self._checkout.cached_file(key[1])
            try:
                self._read[key] = kind.load(path) if key[1] and path.is_file() else None
            except ManifestError as error:
                self._read[key] = error
        found = self._read[key]
        if isinstance(found, ManifestError):
            raise ManifestError(found.what, where=f"{name}, {kind.made_by()}.json", fix=found.fix)
        assert found is None or isinstance(found, kind)
        return found


def _study(name: str, read: Cache, md5s: Mapping[str, str]) -> Study | None:
    """None where the cache lacks a manifest. Raises `ManifestError` where one cannot be read."""
    evaluate = read.manifest(EvaluateManifest, name, md5s)
    benchmark = read.manifest(BenchmarkManifest, name, md5s)
    if evaluate is None or benchmark is None:
        return None
    try:
        return Study(name, evaluate, benchmark, read.manifest(StudentManifest, name, md5s))
    except ManifestError:
        return Study(name, evaluate, benchmark)
