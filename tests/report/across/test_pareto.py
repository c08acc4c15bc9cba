"""The front on hand-made and on drawn points; students found again in a real git repository with a DVC cache."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from made.figures import accuracies, likeness, probes
from made.manifests import ratio, timed, timings

from pipeline.base.errors import ManifestError
from pipeline.base.figures import NotMeasured
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.benchmark.results import Benchmark, Costs
from pipeline.evaluate.manifest import EvaluateItem, EvaluateManifest
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.measures.split_figures import SplitFigures, Standard
from pipeline.report.across.pareto import Pareto, front, pareto, write_pareto
from pipeline.report.across.students import Known, Study, gather

POINTS = st.lists(st.tuples(st.integers(0, 6).map(float), st.integers(0, 6).map(float)), max_size=12)


def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@given(POINTS)
def test_the_front_is_just_what_no_point_beats(points):
    assert front(points) == [not any(beats(other, point) for other in points) for point in points]


def test_a_front_by_hand():
    slow_best, fast_good, slow_worse, fast_worse = (4.0, 0.9), (1.0, 0.8), (3.0, 0.7), (1.0, 0.6)
    assert front([slow_best, fast_good, slow_worse, fast_worse]) == [True, True, False, False]
    assert front([]) == []


def study(name: str, rate: float, linear: float | None, cosine: float = 0.5, slide: str = "s", machine: float = 1.0):
    """A study on a machine that is `machine` times as fast as the first one."""
    none = NotMeasured(why="no tile has a label")
    found = none if linear is None else probes(accuracies(0.95, linear, 0.4))
    split = SplitFigures(
        standard=Standard(of="slides", tiles=9), fidelity=likeness(cosine), patch=none, structure=none, probes=found
    )
    evaluate = EvaluateManifest(
        items=(EvaluateItem(id=slide, key=slide, digest="d", split="test", cosine=0.5, cosine_p5=0.4),),
        summary=EvaluateSummary(
            protocol="histill", teacher="uni", student="b0", primary="test", splits={"test": split}, robustness=none
        ),
    )
    models = {
        model: Costs(name=model, params=round(1e6 / r), gmacs=1.0, input_px=224)
        for model, r in (("teacher", 10.0), ("student", rate))
    }
    found = timed(10.0 * machine, rate * machine, ratio(rate / 10)).model_copy(update={"models": models})
    return Study(name, evaluate, timing(found))


def timing(found: Benchmark) -> BenchmarkManifest:
    return BenchmarkManifest(recipe={"teacher": {"name": "uni"}}, summary=found)


def compared(*studies: Study) -> Pareto:
    return pareto(Known(studies, {}))


def test_time_is_the_share_of_the_teachers_in_the_same_run(tmp_path):
    found = compared(study("here", 40, 0.8), study("slower, on a faster machine", 20, 0.7, machine=9))
    teacher, here, other = found.rows
    assert (teacher.relative_time, here.relative_time, other.relative_time) == (1, 0.25, 0.5)
    assert (here.on_front, other.on_front, teacher.on_front) == (True, False, False)
    assert teacher.linear_student == 0.95 and other.latency_ms < here.latency_ms
    write_pareto(found, tmp_path / "pareto.csv")
    assert (tmp_path / "pareto.csv").read_text().splitlines()[2].startswith("here,student,0.25,25.0,25.0,40.0,0.8,")


def test_noise_puts_no_worse_twin_on_the_front():
    lucky, better, larger = study("lucky", 44, 0.7), study("better", 40, 0.8), study("larger", 41, 0.75)
    of_better = {"models": better.benchmark.summary.models}
    lucky = replace(lucky, benchmark=timing(lucky.benchmark.summary.model_copy(update=of_better)))
    flags = {row.name: row.on_front for row in compared(lucky, better, larger).rows}
    # The network of `lucky` and `better` takes 0.239 of the teacher's time, `larger` 0.244.
    assert flags == {"teacher": False, "lucky": False, "better": True, "larger": False}


def test_what_does_not_compare_is_left_out_and_named():
    found = compared(study("here", 40, 0.8), study("elsewhere", 40, 0.9, slide="t"), study("unlabelled", 40, None))
    assert [row.name for row in found.rows] == ["teacher", "here"]
    assert [line.split(":")[0] for line in found.left_out] == ["elsewhere", "unlabelled"]


def on_a_gpu(found: Benchmark) -> Benchmark:
    cells = tuple(cell.model_copy(update={"device": "cuda"}) for cell in found.cells)
    machine = found.machine.model_copy(update={"gpu": "H200"})
    return found.model_copy(update={"machine": machine, "cells": cells})


def on(found: Benchmark, **machine: object) -> Benchmark:
    return found.model_copy(update={"machine": found.machine.model_copy(update=machine)})


def in_all_cells(found: Benchmark, **changed: object) -> Benchmark:
    return found.model_copy(update={"cells": tuple(cell.model_copy(update=changed) for cell in found.cells)})


@pytest.mark.parametrize(
    "changed",
    [
        lambda found: on(found, cpu="Another"),
        lambda found: on(found, threads=8),
        on_a_gpu,
        lambda found: in_all_cells(found, precision="bf16"),
        lambda found: in_all_cells(found, rows=timings(20.0, (9,))),
    ],
    ids=["processor", "threads", "device", "precision", "batches"],
)
def test_a_share_of_the_teachers_time_is_another_one_where_it_was_measured_otherwise(changed):
    other = study("other", 20, 0.9)
    other = replace(other, benchmark=timing(changed(other.benchmark.summary)))
    found = compared(study("here", 40, 0.8), other)
    assert [row.name for row in found.rows] == ["teacher", "here"]
    (why,) = found.left_out
    assert why.startswith("other: timed on ") and "not on A Processor, 2 threads, eager fp32, batches of 1, 8" in why


def test_other_tiles_of_the_same_slides_do_not_compare():
    coarser = study("coarser", 20, 0.9)
    items = tuple(item.model_copy(update={"n": 9}) for item in coarser.evaluate.items)
    coarser = replace(coarser, evaluate=coarser.evaluate.model_copy(update={"items": items}))
    assert compared(study("here", 40, 0.8), coarser).left_out == (
        "coarser: another teacher, other held-out tiles or another protocol",
    )


def test_a_student_that_was_evaluated_and_not_timed_does_not_borrow_the_time_of_another():
    """As `dvc exp run evaluate` leaves it: the benchmark in its dvc.lock is of the student before."""
    untimed = study("untimed", 20, 0.9)
    recipes = {
        name: {**getattr(untimed, name).recipe, "student": s * 32}
        for name, s in (("evaluate", "b"), ("benchmark", "a"))
    }
    untimed = replace(
        untimed,
        **{name: getattr(untimed, name).model_copy(update={"recipe": recipe}) for name, recipe in recipes.items()},
    )
    found = compared(study("here", 40, 0.8), untimed)
    assert found.left_out == ("untimed: its benchmark is of another student than its evaluation",)


def test_what_another_version_wrote_is_left_out_and_named():
    unread = {"old": ManifestError("another version of Histill wrote it: form 2, not 3")}
    found = pareto(Known((study("here", 40, 0.8),), unread))
    assert found.left_out == ("old: another version of Histill wrote it: form 2, not 3",)


def test_fidelity_stands_in_where_no_tile_has_a_label():
    found = compared(study("a", 40, None, cosine=0.6), study("b", 20, None, cosine=0.5))
    assert found.measure == "cosine" and [row.on_front for row in found.rows] == [False, True, False]


def git(root, *words):
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *settings, *words], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def lock(root, made: Study) -> None:
    """Leave what `dvc repro` leaves of a study: dvc.lock, and the manifests in the cache."""
    outs = []
    for manifest in (made.evaluate, made.benchmark):
        data = manifest.model_dump_json().encode()
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        cached = root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(data)
        outs.append({"path": f"artifacts/{manifest.stage}.json", "hash": "md5", "md5": md5})
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {"all": {"outs": outs}}}))


def test_students_of_branches_and_experiments_are_found_once_each(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    main, other, lost = study("main", 10, 0.8), study("wide", 20, 0.9), study("lost", 30, 0.9)
    (tmp_path / ".gitignore").write_text(".dvc\n")
    aside = study("put aside", 15, 0.85)
    for made, branch in ((main, "main"), (aside, "put-aside"), (other, "tmp"), (lost, "lost")):
        git(tmp_path, "checkout", "-q", "-B", branch)
        lock(tmp_path, made)
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-qm", branch)
    git(tmp_path, "update-ref", f"refs/exps/ab/{'c' * 38}/wide", "tmp")
    for own in ("exec/EXEC_HEAD", "celery/stash", "stash", f"temp/ab/{'c' * 38}/wide"):
        git(tmp_path, "update-ref", f"refs/exps/{own}", "put-aside")
    git(tmp_path, "branch", "-qD", "tmp", "put-aside")
    md5 = hashlib.md5(lost.benchmark.model_dump_json().encode(), usedforsecurity=False).hexdigest()
    (tmp_path / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]).unlink()
    workspace = Study("workspace", main.evaluate, main.benchmark)
    assert gather(tmp_path, workspace) == Known((workspace, other), {})
    assert {found.name for found in gather(tmp_path).studies} == {"main", "wide"}


@pytest.mark.parametrize("name", ["feature/x", "plain"])
def test_a_folder_that_is_no_repository_has_no_study_but_its_own(tmp_path, name):
    made = study(name, 10, 0.8)
    assert gather(tmp_path, made).studies == (made,) and gather(tmp_path).studies == ()
