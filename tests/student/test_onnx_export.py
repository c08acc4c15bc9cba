"""The ONNX file of an exported student: another process writes the same bytes, and what cannot be written is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made.cache import Cache
from made.corpus import tiny
from torch import nn

from pipeline.base.errors import TrainingError
from pipeline.student.export import write_student_onnx
from pipeline.student.train import train_student


def test_another_process_writes_the_same_bytes(cache: Cache, tmp_path: Path) -> None:
    out = tmp_path / "student"
    params = tiny(epochs=1, seed=7)
    train_student(cache.tiles, cache.tokens, params, cache.store, out=out, curve=tmp_path / "curve.csv")
    code = (
        "from pathlib import Path\n"
        "from pipeline.student.export import write_student_onnx\n"
        "from pipeline.student.exported import load_student\n"
        f"write_student_onnx(load_student(Path({str(out)!r})), 32, Path({str(tmp_path / 'again.onnx')!r}))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "again.onnx").read_bytes() == (out / "model.onnx").read_bytes()


def test_a_student_that_onnx_cannot_hold_is_refused(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(image_NCHW[:, 0]).real

    with pytest.raises(TrainingError, match=r"student\.model: it cannot be written as ONNX(?s:.)*choose another"):
        write_student_onnx(Odd(), 32, tmp_path / "model.onnx")
