"""Caches are shared, runs are resumed and nothing is computed twice: real `dvc` processes in a clone of the project."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from made.command import histill
from made.held import held
from made.python_server import loaded_python
from project import TINY, Project

from pipeline.base.items import TilesManifest
from pipeline.base.store import Ref, Store
from pipeline.params import STAGES
from pipeline.study.run import Plan, run_study
from pipeline.study.table import results_of
from pipeline.tiles.item.meta import OFFSETS_ARRAY

ROWS = "path,split\ndemo:1,train\ndemo:6,test\ndemo:8,train\n"
CACHED = ("slides", "tiles", "teachers", "tokens")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose pipeline has run once, over as many processes as by default, its result committed."""
    project = Project(tmp_path_factory.mktemp("clone"), {**TINY, "cluster": {"workers": None}}, ROWS)
    project.dvc("repro")
    project.commit("first run")
    yield project
    shutil.rmtree(project.root)


def skipped(output: str) -> set[str]:
    """Stages that DVC did not run: nothing changed, or (in a temporary experiment) its run cache had the result."""
    ends = ("didn't change", "is cached - skipping run")
    return {stage for stage in STAGES if any(f"'{stage}' {end}" in output for end in ends)}


def test_every_stage_made_what_it_promises(project: Project) -> None:
    for name in ("reports/report.html", "models/student/config.json", "models/student/model.safetensors"):
        assert (project.root / name).is_file()
    for stage in STAGES:
        assert b'"stage": "%s"' % stage.encode() in project.artifact(stage)
        assert str(project.root).encode() not in project.artifact(stage), "a manifest holds no machine's path"
    assert b'"id": "demo-8"' in project.artifact("slides"), "the corrupt slide is listed as refused"


def test_metrics_and_plots_are_shown(project: Project) -> None:
    shown = project.dvc("metrics", "show")
    for stage in ("tiles", "tokens", "student", "evaluate", "benchmark"):
        assert f"metrics/{stage}.json" in shown
    assert "index.html" in project.dvc("plots", "show", "-o", "plots_html")
    shutil.rmtree(project.root / "plots_html")


def test_an_experiment_finds_tiles_and_tokens_cached(project: Project) -> None:
    """In a folder of its own, which DVC makes for it."""
    before = {kind: project.written(kind) for kind in CACHED}
    trained = project.written("checkpoints")
    output = project.dvc("exp", "run", "--temp", "-S", "student.objective.patch=0", "student")
    assert {"slides", "tiles", "tokens"} <= skipped(output), output
    assert {kind: project.written(kind) for kind in CACHED} == before
    assert len(project.written("checkpoints")) == len(trained) + 1
    assert not (project.root / ".dvc" / "tmp" / "exps" / "standalone" / ".store").exists()


def test_missing_bytes_are_named_with_the_command_that_makes_them(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HISTILL_STORE", raising=False)
    hidden = project.root / ".store" / "tokens-hidden"
    (project.root / ".store" / "tokens").rename(hidden)
    try:
        told = histill(project.root, "evaluate")
    finally:
        hidden.rename(project.root / ".store" / "tokens")
    assert told.returncode == 1 and "the store lacks tokens/" in told.stderr and "dvc repro -f -s tokens" in told.stderr
    assert "Traceback" not in told.stderr


def test_kill_9_during_tokens_loses_nothing_and_changes_nothing(project: Project, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for kind in ("slides", "tiles", "teachers"):
        shutil.copytree(project.root / ".store" / kind, store / kind)
    manifest, metrics = project.artifact("tokens"), project.root / "metrics" / "tokens.json"
    timed = metrics.read_bytes()

    tiles = TilesManifest.model_validate_json(project.artifact("tiles"))
    # It is at the first slide when it comes to the second one's.
    offsets = Store(store).path(Ref.of(tiles, tiles.item("demo-6"))) / OFFSETS_ARRAY / "zarr.json"
    with held(offsets) as file:
        told = project.kill_when(file.is_read, "repro", "-s", "-f", "tokens", HISTILL_STORE=str(store))
    assert "Running stage 'tokens'" in told and "'tiles'" not in told, "a stage runs alone by its name"
    assert list((store / "tokens").glob("*/.partials/*/*")), "the kill came while an item was open"
    # As the project's own processes have.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    done = histill(project.root, "tokens", HISTILL_STORE=str(store))
    torch.set_num_threads(threads)
    assert done.returncode == 0, done.stderr
    metrics.write_bytes(timed)
    assert not list((store / "tokens").glob("*/.partials/*/*"))
    assert project.artifact("tokens") == manifest
    assert project.store_files("tokens", store) == project.store_files("tokens")


def test_another_repro_runs_nothing_whatever_was_killed_before(project: Project) -> None:
    assert skipped(project.dvc("repro")) == set(STAGES)


def test_the_examples_run_on_the_demo(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    table = tmp_path / "slides.csv"
    table.write_text("path,label,split\ndemo:1,tumour,train\ndemo:6,normal,test\ndemo:8,tumour,train\n")
    alone = tmp_path / "alone.csv"
    alone.write_text("path\ndemo:6\n")
    threads = torch.get_num_threads()
    by_file = ("--engine", "onnxruntime")
    runs = {
        "bags": (table, ("--format", "clam", *by_file)),
        "student": (alone, by_file),
        "teacher": (alone, ("--teacher", "demo")),
    }
    for name, (rows, options) in runs.items():
        done = histill(project.root, "embed", str(rows), "--out", str(tmp_path / name), "--jobs", "1", *options)
        assert done.returncode == (3 if rows == table else 0), done.stderr
        assert ("left out: demo-8" in done.stderr) == (rows == table), "the corrupt slide, and no other"
    torch.set_num_threads(threads)
    both = [str(next((tmp_path / name).glob("*/features_*/demo-6.h5"))) for name in ("teacher", "student")]
    words = {
        "abmil.py": [str(tmp_path / "bags"), str(table), "--epochs", "2"],
        "side_by_side.py": [*both, "--out", str(tmp_path / "both.png")],
    }
    said = {}
    for name, typed in words.items():
        capsys.readouterr()
        runpy.run_path(str(project.root / "examples" / name))["main"](typed)
        said[name] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["abmil.py"]["trained_on"], said["abmil.py"]["held_out"]) == (1, 1)
    n = next(item["n"] for item in json.loads(project.artifact("tiles"))["items"] if item["id"] == "demo-6")
    assert said["side_by_side.py"]["tiles"] == n and (tmp_path / "both.png").is_file()


class Study(NamedTuple):
    """A study of one arm, whose table has a slide more than the project's."""

    plan: Plan
    out: Path
    results: Path
    before: dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def study(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Study:
    out, before = tmp_path_factory.mktemp("study"), {kind: project.written(kind) for kind in CACHED}
    small = {"student.model": "test_efficientnet", "student.model_kwargs": {}, "student.epochs": 1}
    plan = Plan(f"{ROWS}demo:2,train\n", (1,), {**small, "cluster.workers": 1}, {"one": {}})
    with pytest.MonkeyPatch.context() as loaded:
        loaded.setattr(sys, "executable", loaded_python())
        results = run_study(plan, project.root, out, project.root / ".store", jobs=2)
    return Study(plan.at(project.root), out, results, before)


def test_arms_run_as_experiments_and_are_not_run_again(project: Project, study: Study) -> None:
    found = results_of(study.plan, study.results, "test")
    assert 0 < found["one"][1].probes.linear.student.balanced.value <= 1
    written = {path.name: path.stat().st_mtime_ns for path in study.results.iterdir()}
    plan = {"table": study.plan.table, "seeds": [1], "base": dict(study.plan.base), "arms": {"one": {}}}
    (study.out / "plan.yaml").write_text(yaml.safe_dump(plan))
    words = [str(study.out / "plan.yaml"), "--data", str(study.out), "--out", str(study.out), "--split", "test"]
    told = json.loads(histill(project.root, "study", *words, "--json").stdout)
    assert told["test"]["one"]["1"] == found["one"][1].split.model_dump(mode="json")
    assert {path.name: path.stat().st_mtime_ns for path in study.results.iterdir()} == written
    assert (project.root / "slides.csv").read_text() == ROWS


def test_adding_one_slide_computes_one_slide(project: Project, study: Study) -> None:
    after = {kind: project.written(kind) for kind in CACHED}
    for kind in ("tiles", "tokens"):
        assert study.before[kind].items() <= after[kind].items()
        assert len(after[kind]) == len(study.before[kind]) + 1
    assert after["teachers"] == study.before["teachers"]
