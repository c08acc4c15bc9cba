"""A student to measure with: EfficientViT-B0 with random weights, in the folder and files that an export has."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

WIDTH, INPUT_PX = 1024, 112


def make_student(folder: Path) -> Path:
    """Written by a process of its own: torch, which that takes, would be part of what is measured here after."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        apart.submit(_write, folder).result()
    return folder


def _write(folder: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file
    from timm.models._hub import save_config_for_hf

    from pipeline.student.shipped import CONFIG_FILE, ONNX_FILE, WEIGHTS_FILE
    from pipeline.teachers.engines.onnx_file import write_onnx

    folder.mkdir()
    torch.manual_seed(0)
    model = timm.create_model("efficientvit_b0", num_classes=WIDTH).eval()
    config = {
        "input_size": (3, INPUT_PX, INPUT_PX),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
    }
    save_config_for_hf(model, str(folder / CONFIG_FILE), model_config={}, data_config=config)
    save_file(model.state_dict(), folder / WEIGHTS_FILE)
    write_onnx(model, INPUT_PX, folder / ONNX_FILE)
