"""A tiny ViT with random weights, saved as a user would save a teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline.params.tokens import TokensParams

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "tiny.safetensors"
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0, **TINY).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def tiny_params(tiny_weights) -> TokensParams:
    return TokensParams(
        teacher="vit_tiny_patch16_224",
        weights=str(tiny_weights),
        model_kwargs=TINY,
        calibration_tiles=8,
        batch_size=8,
        precision="fp32",
    )
