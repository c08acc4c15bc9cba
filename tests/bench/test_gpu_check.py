"""The program of a session with a GPU, on its cheapest step: real processes, what they leave, and what fails."""

from __future__ import annotations

import json
import sys

import pytest
from made.python_server import loaded_python
from project import ROOT

from bench import gpu_check
from bench.gpu_check import STEPS, Step, last_object, run


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_on_a_cpu_a_step_runs_and_says_that_nothing_was_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "executable", loaded_python())
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(["--cpu", "--only", "dense_loss", "arrays", "--out", str(tmp_path)])
    told = last_line(capsys)
    assert ended.value.code == 0 and told["ok"] and told["measured"] is False
    rows = [json.loads(line) for line in (tmp_path / "gpu_check.jsonl").read_text().splitlines()]
    assert [(row["step"], row["status"]) for row in rows] == [("dense_loss", "ok"), ("arrays", "not on a CPU")]
    assert rows[0]["result"]["tokens"] == 196 and rows[0]["gpu"] is None
    assert "python -m bench.kernels.dense_loss" in (tmp_path / "gpu_check.log").read_text()


def test_without_a_gpu_it_says_so_and_runs_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(sys, "executable", loaded_python())
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(["--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert ended.value.code == 1 and "there is no GPU here" in printed and not (tmp_path / "out").exists()


def test_a_step_that_fails_or_hangs_or_has_no_time_says_why(tmp_path):
    log = tmp_path / "log"
    failed = run(Step("absent", "", "no.such.module", 600), True, 1200, log)
    assert failed["status"] == "failed" and "No module named" in failed["why"] and failed["result"] is None
    hangs = run(Step("hangs", "", "timeit -n 1 -r 1 __import__('time').sleep(600)", 1), True, 1200, log)
    assert hangs["status"] == "timed out" and hangs["seconds"] < 600
    assert run(Step("late", "", "timeit", 30), True, 1.0, log)["status"] == "skipped"


def test_every_step_names_a_program_that_is_there():
    for words in (words for step in STEPS for words in (step.gpu, step.cpu) if words):
        assert (ROOT / f"{words.split()[0].replace('.', '/')}.py").is_file(), words
    assert len({step.name for step in STEPS}) == len(STEPS)


def test_the_last_object_is_found_before_what_is_printed_after_it():
    assert last_object('{"a": 1}\n{"b": 2}\n{no object\nbye') == {"b": 2} and last_object("bye") is None
