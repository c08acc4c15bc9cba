"""Weights that are cast to bf16 once give the very bits that autocast gives, which casts them in every pass."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import nn

from pipeline.teachers.engines import Eager
from pipeline.teachers.engines.compiled import Compiled
from pipeline.teachers.engines.lowered import lowered
from pipeline.teachers.preparation import Preparation
from pipeline.teachers.teacher import Teacher

CPU, HALVES = torch.device("cpu"), (0.5,) * 3
MODELS = {
    "vit_tiny_patch16_224": {"img_size": 64, "depth": 2},
    "test_resnet": {},
    "test_efficientnet": {},
    "test_convnext": {},
    "convnext_atto": {},
}


@pytest.mark.parametrize("name", MODELS)
def test_an_engine_in_bf16_casts_once_and_gives_the_bits_of_autocast(name: str) -> None:
    torch.manual_seed(0)
    teacher = Teacher(name, timm.create_model(name, num_classes=0, **MODELS[name]), 64, Preparation(HALVES, HALVES))
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    image_NHWC = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8))
    run = Eager(teacher, CPU, "bf16")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        image_NCHW = teacher.normalise(image_NHWC).contiguous(memory_format=teacher.memory_format)
        expected = teacher.trunk(image_NCHW)
    assert torch.equal(run(image_NHWC), expected)
    layers = [layer for layer in run._trunk.modules() if type(layer) in (nn.Linear, nn.Conv2d)]
    assert layers and all(layer.weight.dtype == torch.bfloat16 for layer in layers)
    # The teacher itself is what the gate compares with.
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


def test_the_compiled_engine_runs_the_same_weights() -> None:
    torch.manual_seed(0)
    teacher = Teacher("test_resnet", timm.create_model("test_resnet", num_classes=0), 64, Preparation(HALVES, HALVES))
    image_NHWC = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8))
    compiled = Compiled(teacher, CPU, "bf16", 2, backend="eager")
    assert {p.dtype for p in compiled._trunk.parameters()} == {torch.bfloat16, torch.float32}
    torch.testing.assert_close(compiled(image_NHWC), Eager(teacher, CPU, "bf16")(image_NHWC))


def test_a_layer_that_computes_with_its_weights_first_is_left() -> None:
    class Standardised(nn.Conv2d):
        """As timm's StdConv2d: its weight is normalised in float32, in every pass."""

    assert lowered(nn.Sequential(Standardised(3, 4, 3)))[0].weight.dtype == torch.float32
