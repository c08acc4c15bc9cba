"""dvc.yaml says what each stage depends on; its import closure says whether that is true."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml
from imports import ROOT, closure, modules

from pipeline.params import STAGES

DVC: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())


def depended(stage: str) -> list[Path]:
    return [Path(dep) for dep in DVC["stages"][stage]["deps"]]


def only_a_docstring(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return len(body) == 1 and isinstance(body[0], ast.Expr)


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_the_import_closure(stage: str) -> None:
    needed = {path.relative_to(ROOT) for name, path in modules().items() if name in closure(f"stages.{stage}")}
    needed = {path for path in needed if not only_a_docstring(ROOT / path)}
    deps = depended(stage)
    missing = {path for path in needed if not any(path == dep or dep in path.parents for dep in deps)}
    assert not missing, f"{stage} imports files that dvc.yaml does not list: {sorted(map(str, missing))}"


@pytest.mark.parametrize("stage", STAGES)
def test_no_dep_is_idle(stage: str) -> None:
    """A dep on code that the stage never imports would rerun it for nothing."""
    used = {path.relative_to(ROOT) for name, path in modules().items() if name in closure(f"stages.{stage}")}
    for dep in depended(stage):
        if dep.parts[0] in ("pipeline", "stages", "kernels"):
            assert any(path == dep or dep in path.parents for path in used), f"{stage} does not import {dep}"


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_reads_its_own_section_and_makes_its_manifest(stage: str) -> None:
    entry = DVC["stages"][stage]
    assert stage in entry["params"]
    assert f"artifacts/{stage}.json" in entry["outs"]
    assert entry["cmd"] == f"python -m stages.{stage}"


def test_no_stage_hashes_the_store_or_all_of_pipeline() -> None:
    for stage in STAGES:
        for path in [*map(str, depended(stage)), *map(str, DVC["stages"][stage]["outs"])]:
            assert path.rstrip("/") not in ("pipeline", ".store", ".")


def test_analytics_are_off() -> None:
    text = (ROOT / ".dvc" / "config").read_text()
    assert "analytics = false" in text and "check_update = false" in text
