"""The ONNX file answers as PyTorch does in each engine that runs it, at any batch size, and is the same file always."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import timm
import torch
from torch import nn

from pipeline.base.errors import EngineError
from pipeline.teachers.engines import Setting, make_file_engine
from pipeline.teachers.engines.onnx_file import OPSET, write_onnx
from pipeline.teachers.network import Preprocess

MODELS = {"efficientvit_b0": {}, "test_vit": {"img_size": 64}, "test_convnext": {}}
MEAN, STD = (0.5, 0.4, 0.6), (0.2, 0.25, 0.3)


def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    made = timm.create_model(name, num_classes=24, **MODELS[name]).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return made.to(memory_format=torch.channels_last)


class Written(NamedTuple):
    name: str
    model: nn.Module
    path: Path


@pytest.fixture(scope="module", params=MODELS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A model and its file, one for all engines."""
    made, path = model(request.param), tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(made, 64, path)
    return Written(request.param, made, path)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_of_files_answers_as_pytorch(written: Written, engine: str) -> None:
    pytest.importorskip(engine)
    preprocess = Preprocess(written.name, 64, MEAN, STD)
    run = make_file_engine(preprocess, Setting(engine, "fp32", torch.device("cpu"), 5), written.path)
    for n in (1, 5, 2):
        image_NHWC = torch.from_numpy(np.random.default_rng(n).integers(0, 256, (n, 64, 64, 3), np.uint8))
        with torch.no_grad():
            expected = written.model(preprocess.normalise(image_NHWC))
        found = run(image_NHWC)
        assert found.shape == (n, 24)
        assert (found - expected).abs().max() < 2e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("written", ["efficientvit_b0"], indirect=True)
def test_the_file_says_its_opset_and_what_goes_in_and_out_and_names_no_machine(written: Written) -> None:
    data = written.path.read_bytes()
    told = onnx.load_from_string(data)
    assert [entry.version for entry in told.opset_import] == [OPSET]
    assert [value.name for value in (*told.graph.input, *told.graph.output)] == ["image", "embedding"]
    assert b"site-packages" not in data and str(Path.cwd()).encode() not in data


def test_a_model_that_onnx_cannot_hold_is_refused(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(image_NCHW[:, 0]).real

    with pytest.raises(EngineError, match="cannot be written as ONNX"):
        write_onnx(Odd(), 32, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("engine", "precision", "device", "why"),
    [
        ("onnxruntime", "bf16", "cpu", "the file's own float32"),
        ("openvino", "fp32", "cuda", "runs on CPUs"),
    ],
)
def test_what_an_engine_of_files_cannot_do_is_said(engine, precision, device, why, tmp_path: Path) -> None:
    pytest.importorskip(engine)
    preprocess = Preprocess("x", 64, MEAN, STD)
    with pytest.raises(EngineError, match=why):
        make_file_engine(preprocess, Setting(engine, precision, torch.device(device), 1), tmp_path / "none.onnx")
