"""Objectives, standardising and adapters other than the defaults, through a real training and its export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from made.cache import Cache
from made.corpus import tiny
from safetensors.torch import load_file

from pipeline.base.store import Ref
from pipeline.corpus.corpus import open_corpus
from pipeline.corpus.targets import cls_standardiser, patch_standardiser
from pipeline.student.adapters import ADAPTERS
from pipeline.student.export import load_run
from pipeline.student.train import train_student

VARIANTS = {
    "phi-s, relation, fuse, artefacts masked": {
        "standardise": "phi-s",
        "adapter": "fuse",
        "objective": {"relation": 0.5, "token_weight": "norm", "relation_queue": 32},
    },
    "mse, bilinear": {"adapter": "bilinear", "objective": {"cls_kind": "mse"}},
    "smooth-L1, phi-s": {"standardise": "phi-s", "objective": {"cls_kind": "smooth_l1"}},
    "similarities to a bank": {"objective": {"cls_kind": "kl", "relation_queue": 32}},
    "an expanded head": {"head_hidden": 40, "objective": {}},
    "relation and patch alone, pool": {"adapter": "pool", "objective": {"cls": 0, "relation": 1}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_trains_and_answers_in_the_teachers_space(variant: str, cache: Cache, tmp_path: Path) -> None:
    changed: dict[str, Any] = VARIANTS[variant]
    params, out = tiny(epochs=1, batch_size=40, **changed), tmp_path / "student"
    curve = tmp_path / "curve.csv"
    manifest, _ = train_student(cache.tiles, cache.tokens, params, cache.store, out=out, curve=curve)
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)
    _, distiller, _ = load_run(cache.store.path(Ref("checkpoints", manifest.recipe_key, "run")))
    described = json.loads((out / "adapter" / "adapter.json").read_text())
    adapter = ADAPTERS[described["adapter"]](**described["arguments"])
    adapter.load_state_dict(load_file(out / "adapter" / "adapter.safetensors"))
    model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    generator = torch.Generator().manual_seed(0)
    image_NHWC = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        ((z_ND, z_NTD),) = distiller(image_NHWC)
        x_ND = model((image_NHWC.permute(0, 3, 1, 2) / 255 - distiller.student.mean) / distiller.student.std)
        x_NTD = adapter(distiller.student(image_NHWC)[1])
    standardiser = cls_standardiser(corpus, params.standardise)
    torch.testing.assert_close(standardiser.forward(x_ND), z_ND, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(patch_standardiser(corpus).forward(x_NTD), z_NTD, atol=1e-3, rtol=1e-3)
    assert ("relation" in manifest.summary.loss) == (changed["objective"].get("relation", 0) > 0)


def test_relation_alone_can_be_trained(cache: Cache, tmp_path: Path) -> None:
    params = tiny(epochs=2, lr=1e-2, objective={"cls": 0, "patch": 0, "relation": 1, "relation_queue": 64})
    curve = tmp_path / "curve.csv"
    train_student(cache.tiles, cache.tokens, params, cache.store, out=tmp_path / "student", curve=curve)
    header, *rows = (line.split(",") for line in curve.read_text().splitlines())
    relation = [float(row[header.index("relation")]) for row in rows]
    assert sum(relation[-5:]) < 0.7 * sum(relation[:5])
