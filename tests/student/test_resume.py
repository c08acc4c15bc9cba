"""kill -9 a real training at whatever step it is in; the next run ends with the bytes of an uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from made.cache import Cache, make_cache
from made.corpus import ALL_CHANGES, tiny
from made.training import make_training

from pipeline.base.errors import TrainingError
from pipeline.student import loop
from pipeline.student.checkpoint import load_checkpoint, save_checkpoint
from pipeline.student.loader import Batch
from pipeline.student.loop import Training
from pipeline.student.train import train_student

TESTS = Path(__file__).parents[1]
PARAMS = {"epochs": 8, "checkpoint_every": 2}
CODE = f"""
import sys
from pathlib import Path
from made.cache import make_cache
from made.corpus import tiny
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
        deadline = time.monotonic() + 600
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
    out = killed / "out"
    assert {item.id for item in manifest.items} == {
        p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()
    }


class StopsAt7(Training):
    def step(self, step: int, batch: Batch) -> dict[str, float]:
        if step == 7:
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
    # Rows of three steps: what is summed towards a row is in no checkpoint, so the one due after 4 waits for the row.
    monkeypatch.setattr(loop, "CURVE_ROWS", 4)
    params = {"checkpoint_every": 4, **VARIANTS[variant]}
    whole = make_training(cache, tmp_path / "whole", **params)
    whole.run()
    with pytest.raises(InterruptedError):
        make_training(cache, tmp_path / "stopped", StopsAt7, **params).run()
    resumed = make_training(cache, tmp_path / "stopped", **params)
    assert resumed.run()["resumed_from"] == 6
    assert resumed.curve == whole.curve
    expected, found = whole.final().state_dict(), resumed.final().state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_checkpoint_that_cannot_be_read_says_which(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"step": 1})
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match=str(path)):
        load_checkpoint(tmp_path)
