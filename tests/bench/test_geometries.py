from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made.cache import make_cache
from made.corpus import tiny

from bench.evaluate.geometries import geometries, main
from pipeline.corpus.phi_s import phi_s
from pipeline.corpus.targets import Standardiser
from pipeline.student.train import train_student


def test_each_geometry_is_that_of_its_standardised_targets() -> None:
    rng = np.random.default_rng(0)
    mix_DD = rng.normal(size=(12, 12)) * np.geomspace(0.1, 10, 12)
    train_MD, teacher_ND = (rng.normal(size=(n, 12)) @ mix_DD + 3 for n in (400, 50))
    student_ND = teacher_ND + rng.normal(size=teacher_ND.shape) * 2
    found = geometries(*(x.astype(np.float32) for x in (teacher_ND, student_ND, train_MD)))
    rotation_DD, scale = phi_s(np.cov(train_MD.T, bias=True))
    mean_D = torch.from_numpy(train_MD.mean(0)).float()
    by = {
        "channel": Standardiser(mean_D, torch.from_numpy(train_MD.std(0)).float()),
        "phi-s": Standardiser(mean_D, torch.full((12,), scale).float(), torch.from_numpy(rotation_DD).float()),
    }
    for name, standardiser in by.items():
        z_ND, s_ND = (standardiser.forward(torch.from_numpy(x)) for x in (teacher_ND, student_ND))
        assert abs(found[name] - float(F.cosine_similarity(z_ND, s_ND).mean())) < 1e-4
    assert abs(found["channel"] - found["phi-s"]) > 0.01


def test_a_finished_run_is_scored_on_each_held_out_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, out = make_cache(tmp_path), tmp_path / "models" / "student"
    params = tiny(epochs=8, lr=5e-3, objective={"patch": 0, "cls_kind": "mse"}, standardise="phi-s")
    train_student(cache.tiles, cache.tokens, params, cache.store, out=out, curve=tmp_path / "curve.csv")
    for name in ("tiles", "tokens"):
        getattr(cache, name).save(tmp_path / "artifacts" / f"{name}.json")
    (tmp_path / "params.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HISTILL_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(sys, "argv", ["geometries"])
    main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(told) == ["test"] and told["test"]["tiles"] == 5
    assert all(0.2 < told["test"][name] <= 1 for name in ("channel", "phi-s")), told
