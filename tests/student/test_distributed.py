"""Two real processes over gloo, started as users start them, train what one process trains; in float64.

In one case of one teacher, in the other of two; both are stopped at the fourth step and go on.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from made.cache import Cache, make_cache
from made.corpus import ALL_CHANGES, tiny, write_tokens
from made.python_server import loaded_python
from made.training import in_float64
from safetensors.torch import load_file

from pipeline.student.train import train_student

TESTS = Path(__file__).parents[1]
CODE = """
import json, os, sys
from pathlib import Path
import numpy as np
import torch.distributed
torch.set_default_dtype(torch.float64)
from pipeline.base.arrays import ArrayWriter, MappedArray
from pipeline.base.errors import TrainingError
from pipeline.base.items import TilesManifest, TokensManifest
from pipeline.base.store import Store
from pipeline.student.device import make_accelerator
from pipeline.student.ranks.node import once
from pipeline.student.loop import Training
from pipeline.student.train import train_student
from made.corpus import tiny
root, params = Path(sys.argv[1]), json.loads(sys.argv[2])
tiles, tokens = TilesManifest.load(root / "tiles.json"), TokensManifest.load(root / "tokens.json")
out, curve = root / "models" / "student", root / "curve.csv"
made = []
def make():
    made.append(1)
    return {"a": np.arange(99), "b": [np.float16([1, 2]), "text"]}
make_accelerator()
shared = once(make)
assert made == [1] * (os.environ["LOCAL_RANK"] == "0"), "one process of the node makes it"
assert shared["a"].sum() == 4851 and shared["b"][0].tolist() == [1, 2] and shared["b"][1] == "text"
inode = [line.split()[4] for line in open("/proc/self/maps") if "memfd:histill" in line]
inodes = [None, None]
torch.distributed.all_gather_object(inodes, inode)
assert len(inodes[0]) == 1 and inodes[0] == inodes[1] and not shared["a"].flags.writeable, "both map the same memory"
def fails():
    raise TrainingError("it failed")
try:
    once(fails)
except TrainingError as error:
    assert error.what == "it failed"
else:
    raise AssertionError("a node's error is everybody's")
step = Training.step
def stopped(training, number, batch):
    if number == 3:
        raise KeyboardInterrupt
    return step(training, number, batch)
Training.step = stopped
try:
    train_student(tiles, tokens, tiny(**params), Store(root / "store"), out=out, curve=curve)
except KeyboardInterrupt:
    Training.step = step
manifest, metrics = train_student(tiles, tokens, tiny(**params), Store(root / "store"), out=out, curve=curve)
assert torch.distributed.get_world_size() == 2 and metrics["steps"] == 6
assert 1 <= metrics["resumed_from"] <= 3, "it goes on at a checkpoint of both"
rank = torch.distributed.get_rank()
(root / f"rank-{rank}.json").write_text(manifest.model_dump_json())
if rank == 0:
    folder = root / "store" / "tokens" / tokens.recipe_key / "key-beta"
    old = MappedArray(folder / "scale")
    writer = ArrayWriter(folder / "scale", old.shape, old.chunk_rows, np.float16)
    writer.write(0, np.full((len(writer.rows(0)), *old.shape[1:]), np.nan, np.float16))
torch.distributed.barrier()
try:
    train_student(tiles, tokens, tiny(**params, seed=1), Store(root / "store"), out=out, curve=curve)
except TrainingError as error:
    (root / f"error-{rank}.txt").write_text(str(error))
torch.distributed.destroy_process_group()
"""
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
                   "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
                   "--num_cpu_threads_per_process", "1"],
}  # fmt: skip
# Batch norm that follows each process's own batches is the one thing in which two processes differ from one.
PARAMS: dict[str, dict[str, Any]] = {
    "torchrun": {
        "model": "test_efficientnet",
        "freeze_batch_norm": True,
        "mix": {"kind": "mixup"},
        "augment": ALL_CHANGES,
    },
    "accelerate": {
        "model": "test_vit",
        "nested": (4, 8),
        "teachers": {"balance": "uncertainty", "weights": {"second": 0.5}},
    },
}


def cache_of(root: Path, params: dict[str, Any]) -> Cache:
    """Of a second teacher too, wider and with fewer cells, where the params are of one."""
    cache = make_cache(root, views=2)
    if "teachers" not in params:
        return cache
    also = write_tokens(cache.store, cache.tiles, name="second", width=40, grid=(2, 2), views=2, seed=1)
    return cache._replace(tokens=cache.tokens.model_copy(update={"also": (also,)}))


def losses(path: Path) -> list[float]:
    with open(path, newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def weights(root: Path) -> dict[str, torch.Tensor]:
    (path,) = (root / "store").glob("checkpoints/*/run/weights.safetensors")
    return load_file(path)


def differences(one: Path, two: Path) -> tuple[float, float]:
    """The greatest relative difference of a loss, and that of all weights as one vector.

    Not of each tensor: a bias whose gradient is zero but for rounding (a ViT's keys) is moved by AdamW all the same.
    """
    a, b = losses(one / "curve.csv"), losses(two / "curve.csv")
    assert len(a) == len(b) == 6
    loss = max(abs(x - y) / x for x, y in zip(a, b, strict=True))
    x, y = (torch.cat([value.flatten() for _, value in sorted(weights(at).items())]).double() for at in (one, two))
    return loss, float((x - y).norm() / x.norm())


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_train_what_one_does(launcher: str, tmp_path: Path) -> None:
    params = {**PARAMS[launcher], "epochs": 3, "batch_size": 20}
    two, one = tmp_path / "two", tmp_path / "one"
    cache = cache_of(two, params)
    cache.tiles.save(two / "tiles.json")
    cache.tokens.save(two / "tokens.json")
    script = tmp_path / "train.py"
    script.write_text(CODE)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHON_EXEC": loaded_python(),
    }
    command = [loaded_python(), "-m", *LAUNCHERS[launcher], str(script), str(two), json.dumps(params)]
    subprocess.run(command, env=environment, check=True, timeout=900)
    errors = [(two / f"error-{rank}.txt").read_text() for rank in (0, 1)]
    assert all(re.match(r"step \d+: the (patch loss|gradient) is not finite; slides: .*beta", e) for e in errors), (
        errors
    )
    assert errors[0].split(":")[0] == errors[1].split(":")[0], "the processes stopped at different steps"
    assert (two / "rank-0.json").read_bytes() == (two / "rank-1.json").read_bytes()

    cache, out, curve = cache_of(one, params), one / "models" / "student", one / "curve.csv"
    # Of a training that their number is part of, two processes read the two parts that one would.
    parts = 1 if params.get("freeze_batch_norm") else 2
    with in_float64():
        train_student(cache.tiles, cache.tokens, tiny(**params, shards=parts), cache.store, out=out, curve=curve)
    loss, weight = differences(one, two)
    assert loss < 1e-7 and weight < 1e-7, (loss, weight)
