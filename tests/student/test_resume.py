"""kill -9 a real training at whatever step it is in; the next run ends with the bytes of an uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from student.conftest import make_cache
from student.synthetic import tiny

from pipeline.errors import TrainingError
from pipeline.student.checkpoint import load_checkpoint, save_checkpoint
from pipeline.student.train import train_student

TESTS = Path(__file__).parents[1]
PARAMS = {"epochs": 8, "checkpoint_every": 2}
CODE = f"""
import sys
from pathlib import Path
from student.conftest import make_cache
from student.synthetic import tiny
from pipeline.student.train import train_student
root = Path(sys.argv[1])
cache = make_cache(root, views=2)
train_student(cache.tiles, cache.tokens, tiny(**{PARAMS}), cache.store, out=root / "out", curve=root / "curve.csv")
"""


def run_folder(root: Path) -> dict[str, bytes]:
    (item,) = (root / "store" / "checkpoints").glob("*/run")
    return {path.name: path.read_bytes() for path in item.iterdir()}


def test_killed_and_restarted_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    cache = make_cache(whole, views=2)
    train_student(cache.tiles, cache.tokens, tiny(**PARAMS), cache.store, out=whole / "out", curve=whole / "curve.csv")

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    with subprocess.Popen(
        [sys.executable, "-c", CODE, str(killed)], env=environment, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while not list(killed.glob("store/checkpoints/*/.run.*.partial/checkpoint.pt")):
            assert process.poll() is None and time.monotonic() < deadline, "it ended before it could be killed"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    assert not list(killed.glob("store/checkpoints/*/run")), "it had ended: nothing was interrupted"

    cache = make_cache(killed, views=2)
    manifest, metrics = train_student(
        cache.tiles, cache.tokens, tiny(**PARAMS), cache.store, out=killed / "out", curve=killed / "curve.csv"
    )
    assert 0 < metrics["resumed_from"] < metrics["steps"] == 40
    assert run_folder(killed) == run_folder(whole)
    assert not list(killed.glob("store/checkpoints/*/.run.*")), "a partial is left behind"
    assert {item.id for item in manifest.items} == {path.name for path in (killed / "out").iterdir()}


def test_a_checkpoint_that_cannot_be_read_says_which(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"step": 1})
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match=str(path)):
        load_checkpoint(tmp_path)
