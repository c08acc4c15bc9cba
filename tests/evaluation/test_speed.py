"""Costs of known models, and a table that is complete; never a speed."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import EvaluationError
from pipeline.evaluation import machine
from pipeline.evaluation.speed import MIN_REPEATS, Contender, benchmark_models, gmacs, measure
from pipeline.evaluation.tables import benchmark_headline, six_digits, write_benchmark_plots
from pipeline.manifest import Manifest
from pipeline.params import BenchmarkParams, TokensParams
from pipeline.store import Store


def test_multiply_adds_of_a_linear_and_a_convolution():
    assert gmacs(nn.Linear(300, 40), torch.zeros(7, 300)) == 7 * 300 * 40 / 1e9
    convolution = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert gmacs(convolution, torch.zeros(1, 3, 16, 16)) == 16 * 16 * 8 * 3 * 9 / 1e9


def test_attention_is_counted_although_its_kernel_is_fused():
    model = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=0)
    tokens, width = 197, 192
    products = tokens * width * width * (3 + 1 + 4 + 4) + 2 * tokens * tokens * width + 196 * 768 * width
    assert abs(gmacs(model.eval(), torch.zeros(1, 3, 224, 224)) * 1e9 / products - 1) < 1e-6


def test_every_cell_is_measured_and_has_its_repeats(tmp_path):
    models = {name: timm.create_model("test_efficientnet", num_classes=8).eval() for name in ("teacher", "student")}
    contenders = {name: Contender(name, model, 32, True) for name, model in models.items()}
    params = BenchmarkParams(batch_sizes=(1, 3), seconds=0.05, slide_tiles=100)
    found = measure(contenders, params)
    for figures in found.values():
        assert [row["batch"] for row in figures["rows"]] == [1, 3]
        assert all(row["repeats"] >= MIN_REPEATS for row in figures["rows"])
        assert all(0 < row["latency_ms_p50"] <= row["latency_ms_p90"] for row in figures["rows"])
        assert figures["slides_per_hour"] == pytest.approx(36 * figures["tiles_per_s"])
    assert found["teacher"]["params"] == sum(p.numel() for p in models["teacher"].parameters())
    assert set(benchmark_headline(found)) >= {"teacher_params", "student_gmacs", "student_tiles_per_s"}
    write_benchmark_plots(Manifest(stage="benchmark", summary=found), tmp_path)
    header, *lines = (tmp_path / "latency.csv").read_text().splitlines()
    assert "teacher_tiles_per_s" in header and "student_ms_p90" in header and len(lines) == 2


def test_the_machine_is_described_without_its_name():
    import socket

    found = machine.describe()
    assert found["cpu"] and found["threads"] >= 1 and found["versions"]["torch"]
    assert socket.gethostname() not in str(found)
    assert machine.peak_rss_mb() > 10


def test_six_digits_reach_every_float():
    assert six_digits({"a": [1 / 3, (2e-9 / 3,)], "n": 7, "s": "x"}) == {
        "a": [0.333333, [6.66667e-10]],
        "n": 7,
        "s": "x",
    }


def test_another_teacher_than_the_cached_one_is_refused(tmp_path):
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    params = TokensParams(teacher="test_vit", weights=str(tmp_path / "w.safetensors"))
    tokens = Manifest(stage="tokens", recipe={"teacher": {"name": "uni", "width": 1024, "input_px": 224}})
    with pytest.raises(EvaluationError, match="cached answers are uni's, 1024 channels"):
        benchmark_models(tokens, tmp_path, params, BenchmarkParams(), Store(tmp_path), 512)
