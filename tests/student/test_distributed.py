"""Two real processes over gloo, as torchrun starts them, train what one process trains."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from student.conftest import make_cache
from student.synthetic import tiny

from pipeline.student.train import train_student

TESTS = Path(__file__).parents[1]
# No batch norm, whose statistics are each process's own.
PARAMS = {"model": "test_vit", "epochs": 2}
CODE = f"""
import sys
from pathlib import Path
import torch.distributed
from pipeline.manifest import Manifest
from pipeline.store import Store
from pipeline.student.train import train_student
from student.synthetic import tiny
root = Path(sys.argv[1])
tiles, tokens = (Manifest.load(root / f"{{stage}}.json", stage) for stage in ("tiles", "tokens"))
store, out = Store(root / "store"), root / "two" / "student"
manifest, metrics = train_student(tiles, tokens, tiny(**{PARAMS}), store, out=out, curve=root / "two" / "curve.csv")
assert torch.distributed.get_world_size() == 2 and metrics["steps"] == 10
torch.distributed.destroy_process_group()
print(manifest.model_dump_json())
"""


def losses(path: Path) -> list[float]:
    with open(path, newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "two", views=2)
    cache.tiles.save(tmp_path / "two" / "tiles.json")
    cache.tokens.save(tmp_path / "two" / "tokens.json")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        "CUDA_VISIBLE_DEVICES": "",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(tmp_path / "two")],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0]
    assert outputs[0] == outputs[1] != ""

    cache = make_cache(tmp_path / "one", views=2)
    out, curve = tmp_path / "one" / "student", tmp_path / "one" / "curve.csv"
    train_student(cache.tiles, cache.tokens, tiny(**PARAMS), cache.store, out=out, curve=curve)
    assert losses(tmp_path / "two" / "two" / "curve.csv") == pytest.approx(losses(curve), rel=1e-4)
