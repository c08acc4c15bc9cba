"""Ten steps of the real trainer on a seeded corpus reproduce the recorded losses: a refactor changes no training.

In float64, from the first weights to the exported ones (`made.training.in_float64`), so that no processor, library or
number of threads moves the ninth digit of a loss, and the bound sees a weight decay changed by a hundredth. The tokens
are float16, since what is quantised in fp32 may fall on either side of a rounding tie.

Where a change of the recipe is meant, record anew: PYTHONPATH=tests python tests/student/test_golden_loss.py
"""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from made.corpus import tiny, write_corpus
from made.training import in_float64
from safetensors.torch import load_file

from pipeline.base.store import Store
from pipeline.student.train import train_student

GOLDEN = Path(__file__).with_name("golden_loss.json")
CASES: dict[str, dict[str, Any]] = {"batch norm held": {"freeze_batch_norm": True}, "batch norm": {}}
LOSSES = ("loss", "cls", "patch")
MAY_DIFFER = 1e-7
"""Relative."""


def trained(root: Path, case: str) -> dict[str, list[float]]:
    """Each loss at each of 10 steps, and the length of all exported weights as one vector.

    Not of each tensor: a bias before a batch norm has a gradient that is zero but for rounding.
    """
    with in_float64():
        store = Store(root / "store")
        tiles, tokens = write_corpus(store, views=2, patch="fp16")
        params = tiny(epochs=2, seed=7, **CASES[case])
        train_student(tiles, tokens, params, store, out=root / "student", curve=root / "curve.csv")
    with open(root / "curve.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    exported = load_file(root / "student" / "model.safetensors").values()
    length = torch.cat([value.double().flatten() for value in exported]).norm()
    return {"exported": [float(length)], **{name: [float(row[name]) for row in rows] for name in LOSSES}}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU trains in bf16 where it can")
def test_ten_steps_reproduce_the_recorded_losses_and_weights(case: str, tmp_path: Path) -> None:
    golden, found = json.loads(GOLDEN.read_text())[case], trained(tmp_path, case)
    assert len(found["loss"]) == 10 and found.keys() == golden.keys()
    for name, values in golden.items():
        assert found[name] == pytest.approx(values, rel=MAY_DIFFER), name


if __name__ == "__main__":
    recorded = {}
    for each in CASES:
        with tempfile.TemporaryDirectory() as folder:
            recorded[each] = trained(Path(folder), each)
    GOLDEN.write_text(json.dumps(recorded, indent=1) + "\n")
