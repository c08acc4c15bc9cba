"""Twenty steps of the real trainer on a seeded corpus reproduce the recorded losses: a refactor changes no training.

Where a change of the recipe is meant, record anew: python tests/test_golden_loss.py
"""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

import pytest
import torch
from student.synthetic import tiny, write_corpus

from pipeline.store import Store
from pipeline.student.train import train_student

GOLDEN = Path(__file__).with_name("golden_loss.json")
PARAMS = {"model": "efficientvit_b0", "input_px": 64, "epochs": 4, "workers": 1, "seed": 7}


def losses(root: Path) -> dict[str, list[float]]:
    """Each loss at each of 20 steps, one thread, fp32."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        store = Store(root / "store")
        tiles, tokens = write_corpus(store, views=2)
        train_student(tiles, tokens, tiny(**PARAMS), store, out=root / "student", curve=root / "curve.csv")
    finally:
        torch.set_num_threads(threads)
    with open(root / "curve.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in ("loss", "cls", "patch")}


@pytest.mark.skipif(torch.cuda.is_available(), reason="the losses were recorded in fp32 on a CPU")
def test_twenty_steps_reproduce_the_recorded_losses(tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text())
    found = losses(tmp_path)
    assert len(found["loss"]) == 20
    for name, values in golden.items():
        assert found[name] == pytest.approx(values, rel=1e-4), name


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(json.dumps(losses(Path(folder)), indent=1) + "\n")
