"""kill -9 a real training; the next run ends with the bytes of an uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from made.cache import Cache, make_cache
from made.corpus import ALL_CHANGES, tiny
from made.python_server import loaded_python
from made.training import make_training

from pipeline.base.errors import TrainingError
from pipeline.corpus.loader import Batch
from pipeline.student import loop
from pipeline.student.checkpoint import Checkpoints, State, load_checkpoint, save_checkpoint
from pipeline.student.loop import Training
from pipeline.student.train import train_student

TESTS = Path(__file__).parents[1]
PARAMS = {"epochs": 3, "batch_size": 20, "checkpoint_minutes": 0, "nested": (4, 8)}
CODE = f"""
import signal, sys
from pathlib import Path
from made.cache import make_cache
from made.corpus import tiny
from made.stopping import after_renaming, signal_at
from pipeline.student.train import train_student
root = Path(sys.argv[1])
cache = make_cache(root, views=2)
signal_at(after_renaming("checkpoint.pt"), signal.SIGKILL)
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
    words = [loaded_python(), "-c", CODE, str(killed)]
    child = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert not list(killed.glob("store/checkpoints/*/run")), "it had ended: nothing was interrupted"

    cache = make_cache(killed, views=2)
    manifest, metrics = train_student(
        cache.tiles, cache.tokens, tiny(**PARAMS), cache.store, out=killed / "out", curve=killed / "curve.csv"
    )
    assert 0 < metrics["resumed_from"] < metrics["steps"] == 6
    assert run_folder(killed) == run_folder(whole)
    assert not list(killed.glob("store/checkpoints/*/.partials/*")), "a partial is left behind"
    out = killed / "out"
    assert {item.id for item in manifest.items} == {
        p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()
    }


class StopsAt5(Training):
    def step(self, step: int, batch: Batch) -> dict[str, float]:
        if step == 5:
            raise InterruptedError
        return super().step(step, batch)


VARIANTS: dict[str, dict[str, Any]] = {
    "frozen batch norm, phi-s, relation, artefacts masked": {
        "freeze_batch_norm": True,
        "standardise": "phi-s",
        "objective": {"relation": 1.0, "token_weight": "norm"},
    },
    "changed and mixed": {"mix": {"kind": "mixup"}, "augment": ALL_CHANGES},
    "dropout": {"model": "test_vit", "model_kwargs": {"drop_path_rate": 0.2, "proj_drop_rate": 0.1}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    variant: str, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rows of two of six steps: what is summed towards a row is in no checkpoint, so one that is due waits for the row.
    monkeypatch.setattr(loop, "CURVE_ROWS", 3)
    params = {"epochs": 3, "batch_size": 20, **VARIANTS[variant]}
    whole = make_training(cache, tmp_path / "whole", **params)
    whole.run()
    with pytest.raises(InterruptedError):
        make_training(cache, tmp_path / "stopped", StopsAt5, **params).run()
    resumed = make_training(cache, tmp_path / "stopped", **params)
    assert resumed.run()["resumed_from"] in (2, 4)
    assert resumed.curve == whole.curve
    expected, found = whole.final().state_dict(), resumed.final().state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_checkpoint_that_cannot_be_read_says_which(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1, torch.zeros(2)))
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match=str(path)):
        load_checkpoint(tmp_path)


def state(step: int, value: torch.Tensor) -> State:
    return {"step": step, "model": {"a": value}, "average": None, "optimizer": {"state": {0: value}}, "curve": []}


def test_what_is_written_is_the_state_at_that_moment_however_it_changes_after(tmp_path: Path) -> None:
    value, curve = torch.zeros(5_000_000), [{"step": 1.0}]
    with Checkpoints(tmp_path, minutes=0) as checkpoints:
        checkpoints.save({**state(1, value), "curve": curve})
        # While it is written, the training goes on.
        value += 1
        curve.append({"step": 2.0})
    found = load_checkpoint(tmp_path)
    assert found is not None and found["curve"] == [{"step": 1.0}]
    assert not found["model"]["a"].any() and not found["optimizer"]["state"][0].any()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_checkpoints_keep_their_distance_and_are_written_one_at_a_time(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, minutes=60) as checkpoints:
        assert not checkpoints.due()
    with Checkpoints(tmp_path, minutes=0) as checkpoints:
        assert checkpoints.due()
        goes_on = threading.Event()
        checkpoints._thread.submit(goes_on.wait)
        checkpoints.save(state(1, torch.zeros(2)))
        assert not checkpoints.due()
        goes_on.set()
    assert load_checkpoint(tmp_path) is not None


def test_a_checkpoint_that_cannot_be_written_ends_the_training(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(FileNotFoundError, match="gone"), Checkpoints(gone, minutes=0) as checkpoints:
        checkpoints.save(state(1, torch.zeros(2)))
        deadline = time.monotonic() + 600
        while not checkpoints.due():
            assert time.monotonic() < deadline
            time.sleep(0.001)
    with pytest.raises(FileNotFoundError, match="gone"), Checkpoints(gone, minutes=0) as checkpoints:
        checkpoints.save(state(1, torch.zeros(2)))
