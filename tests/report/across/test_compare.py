"""Experiments side by side, from a real git repository and a DVC cache."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from browser import check, needs_browser
from made.command import histill
from made.items import student_manifest
from made.manifests import ratio, timed

from pipeline.base.errors import EvaluationError, ManifestError
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.evaluate.manifest import EvaluateItem
from pipeline.report.across.compare import compare_experiments
from pipeline.report.page import Manifests

FACTS = ("evaluate", "benchmark", "student")


def git(root: Path, *words: str) -> None:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *settings, *words], cwd=root, check=True, capture_output=True)


def experiment(root: Path, name: str, manifests: Manifests) -> None:
    """A branch whose dvc.lock names these manifests, which are in DVC's cache."""
    outs = []
    for stage in FACTS:
        data = manifests[stage].model_dump_json().encode()
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        cached = root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(data)
        outs.append({"path": f"artifacts/{stage}.json", "md5": md5})
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {"all": {"outs": outs}}}))
    git(root, "checkout", "-q", "-B", name)
    git(root, "add", "dvc.lock")
    git(root, "commit", "-qm", name)


@pytest.fixture
def checkout(tmp_path: Path, manifests: Manifests) -> Path:
    """Branches `slow` and `fast`, whose students differ in their speed and learning rate; no workspace."""
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "-q", "-b", "slow")
    manifests["student"] = student_manifest(student={"lr": 0.002, "objective": {"cls": 1.0}})
    experiment(root, "slow", manifests)
    manifests["benchmark"] = BenchmarkManifest(summary=timed(40.0, 320.0, ratio(8.0, 3.8, 4.35)))
    manifests["student"] = student_manifest(student={"lr": 0.004, "objective": {"cls": 1.0}})
    experiment(root, "fast", manifests)
    return root


def test_two_experiments_are_side_by_side_in_the_order_asked_for(checkout: Path, tmp_path: Path):
    out = tmp_path / "compare.html"
    assert compare_experiments(checkout, ["slow", "fast"], out).names == ["slow", "fast"]
    text = out.read_text()
    assert re.search(r">lr</th><td>0\.002</td><td>0\.004</td>", text) and "objective.cls" not in text
    assert "<td>164</td><td>320</td>" in text and text.count("0.850, 88 % of the way, 94 % kept (untrained 44 %)") >= 2
    assert not re.search(r"https?://|<script", text) and "Not all of these compare" not in text


def test_a_student_that_was_trained_on_the_test_is_named_in_red(checkout: Path, manifests: Manifests, tmp_path: Path):
    summary = manifests["evaluate"].summary.model_copy(update={"learnt_slides": ("gamma",)})
    manifests["evaluate"] = manifests["evaluate"].model_copy(update={"summary": summary})
    experiment(checkout, "seen", manifests)
    compare_experiments(checkout, ["slow", "seen"], tmp_path / "compare.html")
    alarms = re.findall(
        r'class="alarm" role="alert"><strong>(\S+) was trained on', (tmp_path / "compare.html").read_text()
    )
    assert alarms == ["seen"]


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it(checkout: Path, tmp_path: Path, scheme: str):
    compare_experiments(checkout, ["slow", "fast"], tmp_path / "compare.html")
    check(tmp_path, [("compare.html", 390)], scheme)


def test_without_names_all_are_shown(checkout: Path, tmp_path: Path):
    assert sorted(compare_experiments(checkout, [], tmp_path / "all.html").names) == ["fast", "slow"]


def test_an_unknown_experiment_names_those_that_are_known(checkout: Path, tmp_path: Path):
    with pytest.raises(EvaluationError, match="nightly") as error:
        compare_experiments(checkout, ["slow", "nightly"], tmp_path / "none.html")
    assert "fast" in str(error.value) and not (tmp_path / "none.html").exists()


def test_other_held_out_slides_are_named_and_kept_out_of_the_plot(checkout: Path, manifests: Manifests, tmp_path: Path):
    elsewhere = (EvaluateItem(id="omega", key="omega", digest="d", n=9, split="test", cosine=0.9, cosine_p5=0.8),)
    manifests["evaluate"] = manifests["evaluate"].model_copy(update={"items": elsewhere})
    experiment(checkout, "other-slides", manifests)
    compare_experiments(checkout, ["slow", "other-slides"], tmp_path / "compare.html")
    text = (tmp_path / "compare.html").read_text()
    assert 'class="alarm"' in text and "other-slides: another teacher, other held-out tiles or another protocol" in text
    assert text.count("other-slides</text>") == 0 and "slow</text>" in text


def test_the_command_writes_the_page(checkout: Path):
    git(checkout, "checkout", "-q", "fast")
    (checkout / "dvc.yaml").write_text("stages: {}\n")
    (checkout / ".dvc" / "config").write_text("")
    done = histill(checkout, "report", "--compare", "slow", "fast")
    assert done.returncode == 0, done.stderr
    assert "reports/compare.html: slow, fast" in done.stdout
    assert (checkout / "reports" / "compare.html").is_file()
    told = json.loads(histill(checkout, "report", "--compare", "slow", "--json").stdout)
    assert told["experiments"] == ["slow"] and told["rows"]
    refused = histill(checkout, "report", "slow")
    assert refused.returncode == 2 and "--compare" in refused.stderr


def test_results_of_another_version_are_left_out_or_where_they_are_named_an_error(checkout, manifests, tmp_path):
    manifests["benchmark"] = manifests["benchmark"].model_copy(update={"version": 1})
    experiment(checkout, "old", manifests)
    with pytest.raises(ManifestError, match=r"old, benchmark.json: .*form 1, not 4"):
        compare_experiments(checkout, ["slow", "old"], tmp_path / "compare.html")
    assert sorted(compare_experiments(checkout, [], tmp_path / "compare.html").names) == ["fast", "slow"]
    assert "old: another version of Histill wrote it" in (tmp_path / "compare.html").read_text()


def test_what_is_plotted_stands_in_a_table_the_teacher_too(checkout, tmp_path):
    compare_experiments(checkout, [], tmp_path / "compare.html")
    text = (tmp_path / "compare.html").read_text()
    assert '<th scope="row" class="id">teacher</th><td class="right">1</td><td class="right">0.900</td>' in text
    assert '<td class="right">0.125<small>0.23–0.263</small></td><td class="right">0.850</td><td>yes</td>' in text


def of_weights(manifests: Manifests, digest: str, *stages: str) -> Manifests:
    """The manifests, those of `stages` made of these weights."""
    changed = dict(manifests)
    if "student" in stages:
        changed["student"] = student_manifest(weights=digest, student={"lr": 0.001})
    for stage in {"evaluate", "benchmark"} & set(stages):
        recipe = {**manifests[stage].recipe, "student": digest}
        changed[stage] = manifests[stage].model_copy(update={"recipe": recipe})
    return changed


OF_BOTH = r'<th scope="row">[^<]+</th><td>(.+?)</td><td>(.+?)</td></tr>'


@pytest.mark.parametrize(
    ("stages", "said", "shown"),
    [
        (("student",), "its evaluation is of another student", (False, False)),
        (("student", "evaluate"), "its benchmark is of another student", (True, False)),
        (("student", "evaluate", "benchmark"), "", (True, True)),
    ],
    ids=["stopped before evaluate", "stopped before benchmark", "whole"],
)
def test_an_experiment_that_stopped_early_borrows_no_figures(checkout, manifests, tmp_path, stages, said, shown):
    """Its dvc.lock has the evaluation and the benchmark of the student before it: the digest of the weights decides."""
    before = of_weights(manifests, "a" * 32, "student", "evaluate", "benchmark")
    experiment(checkout, "before", before)
    experiment(checkout, "stopped", of_weights(before, "b" * 32, *stages))
    assert compare_experiments(checkout, ["before", "stopped"], tmp_path / "c.html").names == ["before", "stopped"]
    text = (tmp_path / "c.html").read_text()
    assert ("stopped: its" in text) == bool(said) and said in text
    costs, figures = (text.split(f'aria-label="{part}"')[1].split("</table>")[0] for part in PARTS)
    for part, is_shown in ((figures, shown[0]), (costs, shown[1])):
        own = re.findall(OF_BOTH, part)
        assert own and {cell != "–" for _, cell in own} == {is_shown} and all(cell != "–" for cell, _ in own)


PARTS = ("Size and speed", "Figures of the students")


def test_the_reference_of_a_plot_is_the_first_with_figures_of_its_own(checkout, manifests, tmp_path):
    before = of_weights(manifests, "a" * 32, "student", "evaluate", "benchmark")
    experiment(checkout, "before", before)
    experiment(checkout, "stopped", of_weights(before, "b" * 32, "student"))
    compare_experiments(checkout, ["stopped", "before"], tmp_path / "c.html")
    text = (tmp_path / "c.html").read_text()
    assert "stopped: its evaluation" in text and "before</text>" in text and "stopped</text>" not in text
