"""dvc.yaml says what a stage depends on; its import closure says whether that is true, and `dvc status` what follows.

One module is imported by every stage and covered by no dependency: the check of the whole of params.yaml, which knows
all sections. It may refuse a file, never change a result, since nothing is taken from it; a test here holds that.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from imports import ROOT, closure, imported, modules
from project import TINY, Project

from pipeline.params import SITE_SECTIONS, STAGES

DVC: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
CODE = ("pipeline", "stages", "kernels")
CHECK = "pipeline.params.whole"
LEFT_BY_TOOLS = (
    "__pycache__/grid.cpython-312.pyc",
    ".ipynb_checkpoints/grid-checkpoint.py",
    ".idea/workspace.xml",
    ".grid.py.swp",
    "grid.py~",
    "#grid.py#",
    ".#grid.py",
    ".DS_Store",
)


def depended(stage: str) -> list[Path]:
    return [Path(dep) for dep in DVC["stages"][stage]["deps"]]


def made(stage: str) -> list[str]:
    """The paths of all that a stage makes."""
    entry = DVC["stages"][stage]
    every = [*entry["outs"], *entry["metrics"], *entry.get("plots", [])]
    return [next(iter(out)) if isinstance(out, dict) else out for out in every]


def and_after(stage: str) -> set[str]:
    """The stage and all that read what it makes, directly or not."""
    found = {stage}
    for later in STAGES[STAGES.index(stage) :]:
        if any(str(dep) in made(earlier) for dep in depended(later) for earlier in found):
            found.add(later)
    return found


def used(stage: str) -> set[Path]:
    """The files of ours that a stage's code comes from."""
    names = closure(f"stages.{stage}", without=CHECK)
    return {path.relative_to(ROOT) for name, path in modules().items() if name in names}


def only_a_docstring(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return len(body) == 1 and isinstance(body[0], ast.Expr)


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_the_import_closure(stage: str) -> None:
    needed = {path for path in used(stage) if not only_a_docstring(ROOT / path)}
    deps = depended(stage)
    missing = {path for path in needed if not any(path == dep or dep in path.parents for dep in deps)}
    assert not missing, f"{stage} imports files that dvc.yaml does not list: {sorted(map(str, missing))}"


@pytest.mark.parametrize("stage", STAGES)
def test_no_dep_is_idle(stage: str) -> None:
    """A dep on code that the stage never imports would rerun it for nothing."""
    for dep in depended(stage):
        if dep.parts[0] in CODE:
            assert any(path == dep or dep in path.parents for path in used(stage)), f"{stage} does not import {dep}"


@pytest.mark.parametrize("stage", STAGES)
def test_deps_name_rooms_but_for_the_stage_s_file_and_its_sections(stage: str) -> None:
    code = {dep for dep in depended(stage) if dep.parts[0] in CODE}
    files = {dep for dep in code if dep.suffix}
    assert {str(dep) for dep in files if dep.parts[0] == "stages"} == {
        "stages/__init__.py",
        "stages/command.py",
        f"stages/{stage}.py",
    }
    assert {dep.parent for dep in files} == {Path("stages"), Path("pipeline/params")}
    assert {dep for dep in code - files if len(dep.parts) != 2} <= {Path("kernels")}


def test_the_file_stays_short() -> None:
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) < 200


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_reads_the_sections_that_it_takes_and_makes_its_manifest(stage: str) -> None:
    entry, taken = DVC["stages"][stage], importlib.import_module(f"stages.{stage}").Params.model_fields
    assert stage in taken and set(entry["params"]) == set(taken) - set(SITE_SECTIONS)
    assert f"artifacts/{stage}.json" in entry["outs"]
    assert entry["cmd"] == f"python -m stages.{stage}"


@pytest.mark.parametrize("section", STAGES)
def test_a_params_file_is_a_dep_of_its_own_stage_and_of_none_before_it(section: str) -> None:
    readers = {stage for stage in STAGES if Path(f"pipeline/params/{section}.py") in depended(stage)}
    assert section in readers and readers <= and_after(section)


def test_nothing_is_taken_from_the_check_of_the_whole_of_params_yaml() -> None:
    """What `CHECK` is left out of the closure for: a stage calls it for its refusal alone, and gets no value back."""
    users = {name for name, path in modules().items() if CHECK in imported(path)}
    assert {name for name in users if any(name in closure(f"stages.{stage}") for stage in STAGES)} == {
        "pipeline.params.load"
    }
    loader, check = (ast.parse(modules()[name].read_text()) for name in ("pipeline.params.load", CHECK))
    (taken,) = [node for node in ast.walk(loader) if isinstance(node, ast.ImportFrom) and node.module == CHECK]
    (name,) = [alias.name for alias in taken.names if alias.asname is None]
    mentions = [node for node in ast.walk(loader) if isinstance(node, ast.Name) and node.id == name]
    alone = [
        node.value.func for node in ast.walk(loader) if isinstance(node, ast.Expr) if isinstance(node.value, ast.Call)
    ]
    assert mentions and all(node in alone for node in mentions)
    (function,) = [node for node in ast.walk(check) if isinstance(node, ast.FunctionDef) and node.name == name]
    assert ast.unparse(function.returns) == "None"


def test_no_stage_hashes_the_store_or_all_of_pipeline() -> None:
    for stage in STAGES:
        for path in [*map(str, depended(stage)), *map(str, DVC["stages"][stage]["outs"])]:
            assert path.rstrip("/") not in ("pipeline", ".store", ".")


def test_analytics_are_off() -> None:
    text = (ROOT / ".dvc" / "config").read_text()
    assert "analytics = false" in text and "check_update = false" in text


@contextlib.contextmanager
def dvc_of(project: Project) -> Iterator[Repo]:
    """DVC in this process, which knows stages by their names in the project's folder alone."""
    with contextlib.chdir(project.root), Repo() as repo:
        yield repo


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A clone of which DVC believes that every stage has run: what it would run again is asked, and nothing is run."""
    project = Project(tmp_path_factory.mktemp("clone"), TINY, "path,split\ndemo:1,train\n")
    for stage in STAGES:
        for out in made(stage):
            file = project.root / (out if Path(out).suffix else f"{out}/file")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(out)
    with dvc_of(project) as repo:
        repo.commit(force=True)
    yield project
    shutil.rmtree(project.root)


def rerun(project: Project, *files: str) -> set[str]:
    """The stages that `dvc status` says have changed when these files have; the files are as before afterwards."""
    before = {project.root / file: (project.root / file).read_bytes() for file in files}
    for file, content in before.items():
        file.write_bytes(content + b"\n# changed\n")
    try:
        with dvc_of(project) as repo:
            shown = repo.status()
    finally:
        for file, content in before.items():
            file.write_bytes(content)
    return set(shown)


def test_a_chart_reruns_the_report_alone(locked: Project) -> None:
    assert rerun(locked, "pipeline/report/charts.py", "pipeline/report/templates/report.html") == {"report"}


def test_the_benchmark_s_columns_rerun_no_evaluation(locked: Project) -> None:
    assert rerun(locked, "pipeline/benchmark/tables.py") == {"benchmark", "report"}


@pytest.mark.parametrize("section", ["slides", "student", "benchmark"])
def test_a_params_file_reruns_its_own_stage_and_those_after(locked: Project, section: str) -> None:
    changed = rerun(locked, f"pipeline/params/{section}.py")
    assert section in changed and changed <= and_after(section)


def test_what_tools_leave_in_a_room_reruns_nothing(locked: Project) -> None:
    for name in LEFT_BY_TOOLS:
        file = locked.root / "pipeline" / "tiles" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("left")
    assert not rerun(locked)
