"""A study: arms of one plan, each over several seeds, run as DVC experiments in a clone that shares the store.

A plan is a YAML file (docs/study.yaml is one):

    table: |            the clone's slides.csv; {data} stands for the folder that the command is given
    seeds: [0, 1, 2]    each arm is run once for each
    base: {…}           parameters by dotted name that hold for every arm
    arms:               name: {parameters by dotted name}; the first is what the others are compared with
      both: {}
      global only: {student.objective.patch: 0}

Every job has a clone: a git repository of its own beside the results, so that nothing in the user's workspace changes;
tiles, tokens and finished students come from the shared store. A run that was stopped goes on: an arm's seed is done
when its result lies in `results/`, under a name that its parameters, the committed code and its defaults give.

Jobs share the cores evenly. Small images keep few threads busy: two trainings of one thread each were 1.64 times as
fast as one after the other with two threads (EfficientViT-B0 at 112 px, docs/benchmarks.md).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import yaml

from pipeline.base.errors import StudyError
from pipeline.base.files import write_atomic
from pipeline.base.limits import usable_cores
from pipeline.base.progress import console
from pipeline.base.store import recipe_key
from pipeline.base.types import Json
from pipeline.params import STAGES, text
from pipeline.params.whole import check_params, is_section

Overrides = Mapping[str, Json]
STAGE = "evaluate"
"""Where an arm ends: what a study compares is in this stage's manifest."""


@dataclass(frozen=True)
class Plan:
    """What is run: the clone's slide table, seeds, parameters of all arms and of each."""

    table: str
    seeds: tuple[int, ...]
    base: Overrides
    arms: Mapping[str, Overrides]
    source: str = ""
    """Key of the code, defaults and committed parameters that it is run with."""

    def at(self, project: Path) -> Plan:
        """The plan as it is run with the committed code of a checkout."""
        return replace(self, source=source_key(project))

    def runs(self) -> Iterator[Run]:
        """Every arm with the first seed, then every arm with the second: a study that is stopped has whole rounds."""
        for seed in self.seeds:
            for arm, overrides in self.arms.items():
                yield Run(arm, seed, {**overrides, "student.seed": seed}, self._digest(overrides, seed))

    def _digest(self, overrides: Overrides, seed: int) -> str:
        told: dict[str, Json] = {"table": self.table, "base": dict(self.base), "arm": dict(overrides), "seed": seed}
        told |= {"source": self.source}
        return recipe_key(told)[:16]


@dataclass(frozen=True)
class Run:
    """One arm under one seed; `name` is its experiment's and its result's."""

    arm: str
    seed: int
    overrides: Overrides
    digest: str

    @property
    def name(self) -> str:
        return f"{self._stem}-{self.digest}"

    @property
    def _stem(self) -> str:
        slug = "".join(letter if letter.isalnum() else "-" for letter in self.arm.lower())
        return f"{slug}-s{self.seed}"

    def others(self, results: Path) -> list[str]:
        """Results of the same arm and seed that were made by other code, defaults or parameters."""
        found = re.compile(re.escape(self._stem) + r"-[0-9a-f]{16}\.json")
        return sorted(path.name for path in results.iterdir() if found.fullmatch(path.name))


def source_key(project: Path) -> str:
    """Of all that a result depends on beside its plan, as it is committed: what the stages as far as `evaluate` run,
    the code that dvc.yaml names for them (their defaults with it), and their sections of params.yaml."""
    stages = STAGES[: STAGES.index(STAGE) + 1]
    known = yaml.safe_load(_call(["git", "show", "HEAD:dvc.yaml"], project))["stages"]
    deps = sorted({dep for stage in stages for dep in known[stage]["deps"]} - {"slides.csv"})
    committed = _mapping(_call(["git", "show", "HEAD:params.yaml"], project))
    sections = {name: keys for name, keys in committed.items() if name in stages}
    code = _call(["git", "ls-tree", "HEAD", "--", *deps], project)
    return recipe_key({"commands": [known[stage]["cmd"] for stage in stages], "code": code, "params": sections})


def read_plan(path: Path, data: Path) -> Plan:
    """The plan in `path`, with {data} filled in. Raises `StudyError` with the file and what is wrong."""
    try:
        raw = text.parse(path.read_text(encoding="utf-8").replace("{data}", str(data.resolve())))
    except FileNotFoundError:
        raise StudyError("no such plan", where=str(path), fix="docs/study.yaml is one to start from") from None
    except yaml.YAMLError as error:
        raise StudyError(f"not valid YAML: {error}", where=str(path), fix="mend the line it names") from None
    known = {"table", "seeds", "base", "arms"}
    if not isinstance(raw, dict) or set(raw) != known:
        found = sorted(map(str, raw)) if isinstance(raw, dict) else type(raw).__name__
        raise StudyError(
            f"a plan has the keys {sorted(known)}, not {found}", where=str(path), fix="see docs/study.yaml"
        )
    table, arms, seeds = raw["table"], raw["arms"], _seeds(raw["seeds"])
    wrong = None
    if not isinstance(table, str) or not table.strip():
        wrong = "table: the rows of slides.csv, as text"
    elif not seeds:
        wrong = "seeds: a list of whole numbers from 0, each once"
    elif not isinstance(arms, dict) or not arms:
        wrong = "arms: a name with its parameters each"
    if wrong is not None:
        raise StudyError(wrong, where=str(path), fix="see docs/study.yaml")
    every = {str(name): _overrides(told, f"{path}, arm {name}") for name, told in arms.items()}
    return Plan(table, seeds, _overrides(raw["base"], f"{path}, base"), every)


def _seeds(told: object) -> tuple[int, ...]:
    """Empty where it says none, or says one twice."""
    found = tuple(seed for seed in told if type(seed) is int and seed >= 0) if isinstance(told, list) else ()
    return found if isinstance(told, list) and len(set(found)) == len(told) else ()


def _overrides(told: object, where: str) -> Overrides:
    """Parameters by dotted name; a whole section would take its other keys back to their defaults."""
    if told is None:
        return {}
    if not isinstance(told, dict):
        raise StudyError("parameters are a name and a value each", where=where, fix="as {student.objective.patch: 0}")
    for name in told:
        if not isinstance(name, str) or "." not in name or is_section(name.split(".")):
            fix = f"name its keys: {name}.KEY" if isinstance(told[name], dict) else "as student.objective.patch: 0"
            raise StudyError(f"{name!r} is not the dotted name of one parameter", where=where, fix=fix)
    return dict(told)


def require_known(plan: Plan, project: Path) -> None:
    """Raise `ParamsError` for an arm whose parameters are none, ahead of the hours of those before it."""
    committed = _mapping(_call(["git", "show", "HEAD:params.yaml"], project))
    for arm, overrides in plan.arms.items():
        told = _mapping(_with(committed, {**plan.base, **overrides}).decode())
        check_params({name: {} if keys is None else keys for name, keys in told.items()}, f"the plan's arm {arm!r}")


def run_study(plan: Plan, project: Path, out: Path, store: Path, jobs: int = 1) -> Path:
    """Run what has no result yet, `jobs` at a time, and return the folder of results: files named by `Run.name`.

    A run leaves its evaluate.json and its student's metrics. `project` is the checkout whose committed code is studied;
    `out` gets `clone-0/` … and `results/`. Raises `StudyError` with the end of the output of an experiment that fails;
    no further one is begun then, and what was finished stays.
    """
    require_known(plan, project)
    results = out / "results"
    results.mkdir(parents=True, exist_ok=True)
    plan = plan.at(project)
    todo = [run for run in plan.runs() if not (results / f"{run.name}.json").exists()]
    for run in todo:
        if others := run.others(results):
            why = "is of other code, defaults or parameters: run again, and not tabulated"
            console.print(f"study: {run.arm}, seed {run.seed}: {', '.join(others)} {why}", soft_wrap=True)
    clones: SimpleQueue[Path] = SimpleQueue()
    for job in range(min(jobs, len(todo))):
        clones.put(_clone(plan, project, out / f"clone-{job}"))
    leaders = _leaders(todo) if jobs > 1 else []
    for run in leaders:
        _experiment(run, clones, results, store, jobs=1)
    failed = Event()

    def experiment(run: Run) -> None:
        try:
            if not failed.is_set():
                _experiment(run, clones, results, store, jobs)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(experiment, run) for run in todo if run not in leaders]:
            done.result()
    return results


def _leaders(todo: Sequence[Run]) -> list[Run]:
    """The first run of each setting of slides, tiles and tokens: beside one another, others would compute these too."""
    first: dict[str, Run] = {}
    for run in todo:
        upstream = {
            name: told for name, told in run.overrides.items() if not name.startswith(("student.", "evaluate."))
        }
        first.setdefault(json.dumps(upstream, sort_keys=True), run)
    return list(first.values())


def _experiment(run: Run, clones: SimpleQueue[Path], results: Path, store: Path, jobs: int) -> None:
    """Run one arm in a clone that is free, with its share of the cores, and keep its figures."""
    clone = clones.get()
    try:
        console.print(f"study: {run.arm}, seed {run.seed}")
        # Written whole: what `dvc exp run -S` sets stays in the workspace, and the next arm would have it too.
        committed = _mapping(_call(["git", "show", "HEAD:params.yaml"], clone))
        write_atomic(clone / "params.yaml", _with(committed, run.overrides))
        threads = str(max(1, int(os.environ.get("OMP_NUM_THREADS") or usable_cores()) // jobs))
        _call(
            ["dvc", "exp", "run", "--force", "--name", run.name, STAGE],
            clone,
            HISTILL_STORE=str(store),
            OMP_NUM_THREADS=threads,
        )
        write_atomic(results / f"{run.name}.student.json", (clone / "metrics" / "student.json").read_bytes())
        write_atomic(results / f"{run.name}.json", (clone / "artifacts" / f"{STAGE}.json").read_bytes())
    finally:
        clones.put(clone)


def _clone(plan: Plan, project: Path, clone: Path) -> Path:
    """The project's committed code, the plan's table and parameters, as one commit of the clone."""
    if clone.exists():
        shutil.rmtree(clone)
    _call(["git", "clone", "--quiet", str(project.resolve()), str(clone)], project)
    params = _mapping((clone / "params.yaml").read_text(encoding="utf-8"))
    write_atomic(clone / "params.yaml", _with(params, plan.base))
    write_atomic(clone / "slides.csv", plan.table.encode())
    who = ["-c", "user.name=histill", "-c", "user.email=histill@localhost"]
    _call(["git", *who, "commit", "--quiet", "--all", "--message", "the study's table and parameters"], clone)
    return clone


def _with(params: Mapping[str, Json], overrides: Overrides) -> bytes:
    """params.yaml of `params` with each dotted name set."""
    changed = dict(params)
    for name, value in overrides.items():
        changed = _set(changed, name.split("."), value)
    return text.dump(changed).encode()


def _mapping(written: str) -> dict[str, Json]:
    """The sections of a params.yaml."""
    found = text.parse(written)
    return dict(found) if isinstance(found, Mapping) else {}


def _set(tree: Mapping[str, Json], keys: Sequence[str], value: Json) -> dict[str, Json]:
    key, *rest = keys
    inner = tree.get(key)
    return {**tree, key: _set(inner if isinstance(inner, Mapping) else {}, rest, value) if rest else value}


def _call(command: list[str], folder: Path, **environment: str) -> str:
    """Run a command of this interpreter's environment in `folder`; what it printed, which an error ends with."""
    words = [sys.executable, "-m", *command] if command[0] == "dvc" else command
    # The clone's modules, not those of an editable installation, are what its stages import.
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    full = {**os.environ, **environment, "PATH": paths, "PYTHONPATH": str(folder.resolve())}
    done = subprocess.run(words, cwd=folder, env=full, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    told = done.stdout.decode(errors="replace")
    if done.returncode:
        tail = "\n".join(told.splitlines()[-30:])
        fix = "mend what it says and give the same command again: finished runs are kept"
        raise StudyError(f"{' '.join(command)} failed:\n{tail}", where=str(folder), fix=fix)
    return told
