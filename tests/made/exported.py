"""A student with random weights, exported."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.models._hub import save_config_for_hf

SIDE_PX = 64


def export(folder: Path, width: int, seed: int, architecture: str = "test_efficientnet") -> None:
    """A student's folder as timm writes it."""
    torch.manual_seed(seed)
    model = timm.create_model(architecture, num_classes=width)
    folder.mkdir(parents=True)
    config = {"input_size": (3, SIDE_PX, SIDE_PX), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0}
    save_config_for_hf(model, str(folder / "config.json"), model_config={}, data_config=config)
    save_file(model.state_dict(), folder / "model.safetensors")
