"""The ONNX file answers as PyTorch does, at any batch size, and is the same file every time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from made.cache import Cache
from made.corpus import tiny
from torch import nn

from pipeline.base.errors import TrainingError
from pipeline.student.onnx_export import OPSET, onnx_bytes
from pipeline.student.train import train_student

MODELS = {"efficientvit_b0": {}, "test_vit": {"img_size": 64}, "test_convnext": {}}


def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    made = timm.create_model(name, num_classes=24, **MODELS[name]).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return made.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", MODELS)
def test_onnx_runtime_answers_as_pytorch(name: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    made = model(name)
    session = ort.InferenceSession(onnx_bytes(made, 64), providers=["CPUExecutionProvider"])
    assert [value.name for value in (*session.get_inputs(), *session.get_outputs())] == ["image", "embedding"]
    for batch in (1, 5):
        image_NCHW = torch.randn(batch, 3, 64, 64)
        with torch.no_grad():
            expected = made(image_NCHW).numpy()
        (found,) = session.run(None, {"image": image_NCHW.numpy()})
        assert np.abs(found - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())


def test_the_file_names_no_machine_and_says_its_opset() -> None:
    data = onnx_bytes(model("efficientvit_b0"), 64)
    assert [entry.version for entry in onnx.load_from_string(data).opset_import] == [OPSET]
    assert b"site-packages" not in data and str(Path.cwd()).encode() not in data


def test_another_process_writes_the_same_bytes(cache: Cache, tmp_path: Path) -> None:
    out = tmp_path / "student"
    params = tiny(epochs=1, seed=7)
    train_student(cache.tiles, cache.tokens, params, cache.store, out=out, curve=tmp_path / "curve.csv")
    code = (
        "import sys, timm\n"
        "from pipeline.student.onnx_export import onnx_bytes\n"
        f"m = timm.create_model('local-dir:{out}', pretrained=True).eval()\n"
        "sys.stdout.buffer.write(onnx_bytes(m, 32))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    assert done.stdout == (out / "model.onnx").read_bytes()


def test_a_model_that_onnx_cannot_hold_is_refused() -> None:
    class Odd(nn.Module):
        def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(image_NCHW[:, 0]).real

    with pytest.raises(TrainingError, match="cannot be written as ONNX"):
        onnx_bytes(Odd(), 32)
