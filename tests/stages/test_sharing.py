"""Caches are shared, runs are resumed and nothing is computed twice: real `dvc` processes in a clone of the project."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import TINY, Project

from pipeline.params import STAGES
from pipeline.study.run import Plan, run_study
from pipeline.study.table import results_of

ROWS = "path,split\ndemo:1,train\ndemo:6,test\ndemo:8,train\n"
CACHED = ("slides", "tiles", "teachers", "tokens")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose pipeline has run once, its result committed."""
    project = Project(tmp_path_factory.mktemp("clone"), TINY, ROWS)
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


def test_a_second_repro_runs_nothing(project: Project) -> None:
    assert skipped(project.dvc("repro")) == set(STAGES)


def test_metrics_and_plots_are_shown(project: Project) -> None:
    shown = project.dvc("metrics", "show")
    for stage in ("tiles", "tokens", "student", "evaluate", "benchmark"):
        assert f"metrics/{stage}.json" in shown
    assert "index.html" in project.dvc("plots", "show", "-o", "plots_html")
    shutil.rmtree(project.root / "plots_html")


@pytest.mark.parametrize("temporary", [(), ("--temp",)], ids=["workspace", "temp"])
def test_an_experiment_finds_tiles_and_tokens_cached(project: Project, temporary: tuple[str, ...]) -> None:
    before = {kind: project.written(kind) for kind in CACHED}
    trained = project.written("checkpoints")
    weight = "0" if not temporary else "0.5"
    output = project.dvc("exp", "run", *temporary, "-S", f"student.objective.patch={weight}", "student")
    assert {"slides", "tiles", "tokens"} <= skipped(output), output
    assert {kind: project.written(kind) for kind in CACHED} == before
    assert len(project.written("checkpoints")) == len(trained) + 1
    assert not (project.root / ".dvc" / "tmp" / "exps" / "standalone" / ".store").exists()
    project.git("checkout", "-q", ".")
    project.dvc("checkout")


def test_a_stage_runs_alone_by_name_and_repeats_no_training(project: Project) -> None:
    before, model = project.written("checkpoints"), (project.root / "models/student/model.safetensors").read_bytes()
    output = project.dvc("repro", "-s", "-f", "student")
    assert "Running stage 'student'" in output and "tokens" not in output.split("Running stage")[0]
    assert project.written("checkpoints") == before
    assert (project.root / "models/student/model.safetensors").read_bytes() == model


def test_missing_bytes_are_named_with_the_command_that_makes_them(project: Project) -> None:
    hidden = project.root / ".store" / "tokens-hidden"
    (project.root / ".store" / "tokens").rename(hidden)
    try:
        output = project.dvc("repro", "-s", "-f", "evaluate", ok=False)
        assert "the store lacks tokens/" in output and "dvc repro -f -s tokens" in output
        assert "Traceback" not in output
    finally:
        hidden.rename(project.root / ".store" / "tokens")
        project.dvc("checkout")


def test_kill_9_during_tokens_loses_nothing_and_changes_nothing(project: Project, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for kind in ("slides", "tiles", "teachers"):
        shutil.copytree(project.root / ".store" / kind, store / kind)
    manifest = project.artifact("tokens")

    def a_chunk_is_written() -> bool:
        return any((store / "tokens").glob("*/.*.partial/cls/c/0/*/*")) if (store / "tokens").exists() else False

    project.kill_when(a_chunk_is_written, "repro", "-s", "-f", "tokens", HISTILL_STORE=str(store))
    assert list((store / "tokens").glob("*/.*.partial")), "the kill came while an item was open"
    project.dvc("repro", "-s", "-f", "tokens", HISTILL_STORE=str(store))
    assert not list((store / "tokens").glob("*/.*.partial"))
    assert project.artifact("tokens") == manifest
    assert project.store_files("tokens", store) == project.store_files("tokens")


def test_arms_of_a_study_run_as_experiments_and_are_not_run_again(project: Project, tmp_path: Path) -> None:
    before = {kind: project.written(kind) for kind in CACHED}
    table, store = "path,split\ndemo:1,train\ndemo:6,test\n", project.root / ".store"
    plan = Plan(table, (1,), {"student.epochs": 1}, {"one": {}})
    results = run_study(plan, project.root, tmp_path / "study", store, jobs=2)
    found = results_of(plan, results, "test")
    assert 0 < found["one"][1]["linear"] <= 1
    assert {kind: project.written(kind) for kind in CACHED} == before, "arms share what is in the store"
    written = {path.name: path.stat().st_mtime_ns for path in results.iterdir()}
    run_study(plan, project.root, tmp_path / "study", store, jobs=2)
    assert {path.name: path.stat().st_mtime_ns for path in results.iterdir()} == written
    assert (project.root / "slides.csv").read_text() == ROWS


def test_adding_one_slide_computes_one_slide(project: Project) -> None:
    before = {kind: project.written(kind) for kind in CACHED}
    (project.root / "slides.csv").write_text(ROWS + "demo:2,train\n")
    project.dvc("repro", "tokens")
    after = {kind: project.written(kind) for kind in CACHED}
    for kind in ("tiles", "tokens"):
        assert before[kind].items() <= after[kind].items()
        assert len(after[kind]) == len(before[kind]) + 1
    assert after["teachers"] == before["teachers"]
