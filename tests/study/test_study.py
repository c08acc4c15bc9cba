"""A study: its plan is checked, its table says what the results say. stages/test_sharing.py runs one."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import yaml
from made.figures import accuracies, from_labels, likeness, probes
from project import ROOT
from scipy import stats

from pipeline.base.errors import ManifestError, ParamsError, StudyError
from pipeline.base.figures import NotMeasured
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.measures.split_figures import FromLabels, SplitFigures, Standard
from pipeline.params import text
from pipeline.params.load import load_params
from pipeline.params.whole import WholeParams
from pipeline.study.run import Plan, _leaders, _with, read_plan, run_study
from pipeline.study.table import markdown, over_seeds, results_of, splits_of

PLAN = Plan("path\n", (0, 1, 2), {}, {"both": {}, "global only": {"student.objective.patch": 0}})


@pytest.mark.parametrize("name", ["study.yaml", "study_targets.yaml", "study_inputs.yaml", "study_slides.yaml"])
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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("seeds: 3", "seeds: a list of whole numbers"),
        ("seeds: [a]", "seeds: a list of whole numbers"),
        ("seeds: [0, 0]", "each once"),
        ("seeds: [1.5]", "seeds: a list of whole numbers"),
        ("table: null", "table: the rows"),
        ("arms: [both]", "arms: a name with its parameters"),
        ("arms: {both: 5}", "arm both: parameters are a name and a value"),
        ("base: [1]", "base: parameters are a name and a value"),
        ("arms: {both: {1: 2}}", "arm both: 1 is not the dotted name"),
        ("arms: {both: {epochs: 2}}", "'epochs' is not the dotted name of one parameter"),
        ("arms: {both: {student: {epochs: 2}}}", r"(?s)'student' is not the dotted name.*student\.KEY"),
        ("arms: {both: {student.objective: {patch: 0}}}", r"(?s)'student.objective' is not.*student\.objective\.KEY"),
    ],
)
def test_what_a_plan_says_otherwise_than_it_can_is_named(tmp_path: Path, change: str, said: str) -> None:
    """A section as a whole would take its other keys back to their defaults."""
    lines = {"table": "table: x", "seeds": "seeds: [0]", "base": "base: {}", "arms": "arms: {both: {}}"}
    lines[change.partition(":")[0]] = change
    (tmp_path / "plan.yaml").write_text("\n".join(lines.values()))
    with pytest.raises(StudyError, match=said):
        read_plan(tmp_path / "plan.yaml", tmp_path)


def test_an_arm_that_no_stage_would_take_is_said_before_any_is_run(tmp_path: Path) -> None:
    plan = Plan("path\n", (0,), {}, {"both": {}, "longer": {"student.epoch": 30}})
    with pytest.raises(ParamsError, match=r"(?s)the plan's arm 'longer': .*did you mean 'epochs'"):
        run_study(plan, ROOT, tmp_path / "out", tmp_path / "store")
    assert not (tmp_path / "out").exists()


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


def commit(root: Path, path: str, text: str) -> None:
    (root / path).write_text(text)
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *who, "commit", "-qam", path], cwd=root, check=True)


@pytest.mark.parametrize(
    ("path", "changed", "told", "another"),
    [
        ("pipeline/params/student.py", "epochs: Positive = 20", "epochs: Positive = 21", True),
        ("pipeline/student/loop.py", '"""', '"""Otherwise. ', True),
        ("params.yaml", "knn_k: 20", "knn_k: 10", True),
        ("params.yaml", "title: Histill demo", "title: Another", False),
        ("pipeline/report/charts.py", '"""', '"""Otherwise. ', False),
        ("README.md", "Histill", "Histill!", False),
    ],
    ids=["default", "code", "parameter", "report's parameter", "report's code", "page"],
)
def test_results_of_other_code_and_defaults_are_other_results(tmp_path, path, changed, told, another) -> None:
    for folder in ("pipeline", "stages", "kernels"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("dvc.yaml", "params.yaml", "README.md"):
        shutil.copy(ROOT / file, tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    commit(tmp_path, "README.md", "Histill\n")
    before = [run.name for run in PLAN.at(tmp_path).runs()]
    written = (tmp_path / path).read_text()
    assert changed in written
    commit(tmp_path, path, written.replace(changed, told, 1))
    after = [run.name for run in PLAN.at(tmp_path).runs()]
    assert (set(before) & set(after) == set()) == another and (before == after) != another


def test_results_of_other_code_are_named_and_not_tabulated(tmp_path: Path) -> None:
    run, other = next(PLAN.runs()), next(replace(PLAN, source="other").runs())
    result(tmp_path, other.name, 0.9)
    (tmp_path / f"{other.name}.student.json").write_text("{}")
    assert run.others(tmp_path) == [f"{other.name}.json"]
    assert [len(by_seed) for by_seed in results_of(PLAN, tmp_path, "test").values()] == [0, 0]


def test_a_plans_words_and_numbers_are_those_of_params_yaml(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "table: x\nseeds: [0]\nbase: {student.lr: 1e-3, student.compile: off}\narms: {one: {}}\n"
    )
    plan = read_plan(tmp_path / "plan.yaml", tmp_path)
    (tmp_path / "params.yaml").write_bytes(_with({"student": {"model_kwargs": {"a": text.Word("off")}}}, plan.base))
    student = load_params(WholeParams, tmp_path / "params.yaml").student
    assert (student.lr, student.compile, student.model_kwargs) == (1e-3, "off", {"a": False})


def result(folder: Path, name: str, student: float, labels: Mapping[int, FromLabels] = MappingProxyType({})) -> None:
    table, none = accuracies(0.8, student, 0.4), NotMeasured(why="not asked for")
    split = SplitFigures(
        standard=Standard(of="slides", tiles=9),
        fidelity=likeness(0.5),
        patch=none,
        structure=none,
        probes=probes(table, table).model_copy(update={"head_transfer": table}),
        from_labels=labels,
    )
    summary = EvaluateSummary(
        protocol="histill", teacher="t", student="s", primary="test", splits={"test": split}, robustness=none
    )
    EvaluateManifest(summary=summary).save(folder / f"{name}.json")


def test_the_table_gives_means_over_seeds_and_paired_differences(tmp_path: Path) -> None:
    scores = {"both": (0.70, 0.72, 0.74), "global only": (0.72, 0.74, 0.76)}
    for run in PLAN.runs():
        result(tmp_path, run.name, scores[run.arm][run.seed])
    table = markdown(results_of(PLAN, tmp_path, "test"), "test").splitlines()
    assert table[2].startswith(
        "| both | 3 | 0.500 ± 0.000 | 80.0 % ± 12.4 | 80.0 % ± 12.4 | 0.720 ± 0.050 | 90.0 % ± 6.2 | 50.0 % ± 0.0 |"
    )
    assert "| +0.020 ± 0.000 |" in table[4]
    assert table[-1].startswith("linear probe: teacher 0.800, untrained student 0.400")


def test_a_study_that_was_stopped_is_tabulated_as_far_as_it_went(tmp_path: Path) -> None:
    result(tmp_path, next(PLAN.runs()).name, 0.6)
    found = results_of(PLAN, tmp_path, "test")
    assert [len(by_seed) for by_seed in found.values()] == [1, 0]
    assert "| global only | 0 | – |" in markdown(found, "test")
    assert "test" in splits_of(PLAN, tmp_path) and "validation" not in splits_of(PLAN, tmp_path)


def test_numbers_of_labels_are_columns_where_all_results_have_them(tmp_path: Path) -> None:
    for run in PLAN.runs():
        row = from_labels(0.7, 0.5 + run.seed / 100)
        result(tmp_path, run.name, 0.7, {25: row, 10: row} if run.arm == "both" else {10: row})
    table = markdown(results_of(PLAN, tmp_path, "test"), "test").splitlines()
    named = "| 10 labels: distilled | 10 labels: from labels alone | 10 labels: difference |"
    assert table[0].endswith(named) and "25 labels" not in table[0]
    assert table[2].endswith("| 0.700 ± 0.000 | 0.510 ± 0.025 | 0.190 ± 0.025 |")


def test_a_result_of_another_version_is_an_error_that_says_how_to_have_it_again(tmp_path: Path) -> None:
    name = next(PLAN.runs()).name
    (tmp_path / f"{name}.json").write_text(json.dumps({"stage": "evaluate", "version": 2, "summary": {"probes": {}}}))
    with pytest.raises(ManifestError, match=rf"{name}\.json: .*form 2, not 5\n.*delete that file"):
        results_of(PLAN, tmp_path, "test")


def test_the_interval_is_student_s() -> None:
    values = [0.1, 0.4, 0.35]
    figure = over_seeds(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (figure.span.low, figure.span.high) == pytest.approx((low, high), rel=1e-5)
    assert (figure.unit, figure.span.units, figure.span.method) == ("seed", 3, "t")
    assert over_seeds([0.4]).span is None
