"""A study: its plan is checked, its table says what the results say. stages/test_sharing.py runs one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from project import ROOT
from scipy import stats

from pipeline.base.errors import StudyError
from pipeline.params.whole import WholeParams
from pipeline.study.run import Plan, _leaders, _with, read_plan
from pipeline.study.table import interval, markdown, results_of

PLAN = Plan("path\n", (0, 1, 2), {}, {"both": {}, "global only": {"student.objective.patch": 0}})


@pytest.mark.parametrize("name", ["study.yaml", "study_targets.yaml"])
def test_the_shipped_plans_name_only_parameters_that_exist(name: str) -> None:
    plan = read_plan(ROOT / "docs" / name, ROOT)
    for overrides in (plan.base, *plan.arms.values()):
        for name in overrides:
            part = WholeParams()
            for key in name.split("."):
                assert key in type(part).model_fields, name
                part = getattr(part, key)


@pytest.mark.parametrize("text", ["arms: [", "arms: {}", "table: x\nseeds: [0]\nbase: {}\narms: {}\n"])
def test_a_plan_that_cannot_be_run_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(StudyError, match=r"plan\.yaml"):
        read_plan(tmp_path / "plan.yaml", tmp_path)


def test_a_run_s_name_changes_with_all_that_it_depends_on() -> None:
    other = Plan(PLAN.table, PLAN.seeds, {"student.epochs": 3}, PLAN.arms)
    names = [run.name for plan in (PLAN, other) for run in plan.runs()]
    assert len(set(names)) == len(names) == 12


def test_what_arms_share_is_computed_by_one_of_them_first() -> None:
    arms = {"both": {}, "global only": {"student.objective.patch": 0}, "views": {"tokens.views": 4}}
    leaders = _leaders(list(Plan("path\n", (0, 1), {}, arms).runs()))
    assert [(run.arm, run.seed) for run in leaders] == [("both", 0), ("views", 0)]


def test_an_arm_s_parameters_are_the_committed_ones_and_its_own() -> None:
    committed = {"student": {"epochs": 3, "objective": {"cls": 1.0, "patch": 1.0}}}
    first = yaml.safe_load(_with(committed, {"student.objective.patch": 0, "tokens.views": 4}))
    assert first == {"student": {"epochs": 3, "objective": {"cls": 1.0, "patch": 0}}, "tokens": {"views": 4}}
    assert yaml.safe_load(_with(committed, {})) == committed


def result(folder: Path, name: str, student: float) -> None:
    told = {model: {"balanced_accuracy": value} for model, value in (("teacher", 0.8), ("untrained", 0.4))}
    probe = told | {"student": {"balanced_accuracy": student}, "retention": {"value": student / 0.8}}
    summary = {
        "probes": {"test": {"linear": probe, "knn": probe, "head_transfer": probe}},
        "fidelity": {"test": {"cosine": 0.5}},
    }
    (folder / f"{name}.json").write_text(json.dumps({"summary": summary}))


def test_the_table_gives_means_over_seeds_and_paired_differences(tmp_path: Path) -> None:
    scores = {"both": (0.70, 0.72, 0.74), "global only": (0.72, 0.74, 0.76)}
    for run in PLAN.runs():
        result(tmp_path, run.name, scores[run.arm][run.seed])
    table = markdown(results_of(PLAN, tmp_path, "test"), "test").splitlines()
    assert table[2].startswith("| both | 3 | 0.500 ± 0.000 | 0.720 ± 0.050 | 90.0 % ± 6.2 |")
    assert "| +0.020 ± 0.000 |" in table[4]
    assert table[-1].startswith("linear probe: teacher 0.800, untrained student 0.400")


def test_a_study_that_was_stopped_is_tabulated_as_far_as_it_went(tmp_path: Path) -> None:
    result(tmp_path, next(PLAN.runs()).name, 0.6)
    found = results_of(PLAN, tmp_path, "test")
    assert [len(by_seed) for by_seed in found.values()] == [1, 0]
    assert "| global only | 0 | – |" in markdown(found, "test")


def test_numbers_of_labels_are_columns_where_all_results_have_them(tmp_path: Path) -> None:
    for run in PLAN.runs():
        result(tmp_path, run.name, 0.7)
        path = tmp_path / f"{run.name}.json"
        told = json.loads(path.read_text())
        scores = {"student": {"balanced_accuracy": 0.7}, "from_labels": {"balanced_accuracy": 0.5 + run.seed / 100}}
        row = scores | {"gain": {"value": 0.2 - run.seed / 100}}
        told["summary"]["from_labels"] = {"test": {"25": row, "10": row} if run.arm == "both" else {"10": row}}
        path.write_text(json.dumps(told))
    table = markdown(results_of(PLAN, tmp_path, "test"), "test").splitlines()
    named = "| 10 labels: distilled | 10 labels: from labels alone | 10 labels: difference |"
    assert table[0].endswith(named) and "25 labels" not in table[0]
    assert table[2].endswith("| 0.700 ± 0.000 | 0.510 ± 0.025 | 0.190 ± 0.025 |")


def test_the_interval_is_student_s() -> None:
    values = [0.1, 0.4, 0.35]
    mean, half = interval(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
