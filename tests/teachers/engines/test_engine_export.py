import copy
import importlib.util

import pytest
import timm
import torch
from torch import nn

from pipeline.base.errors import EngineError
from pipeline.teachers.engines.export import export_trunk, require_convertible, violations
from pipeline.teachers.preparation import Preparation
from pipeline.teachers.teacher import Teacher

UNI = {"init_values": 1e-5, "dynamic_img_size": True}


def trunk(name, input_px, **model_kwargs):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, **model_kwargs)
    return Teacher(name, model, input_px, Preparation((0.5,) * 3, (0.5,) * 3)).trunk


@pytest.fixture(scope="module")
def uni():
    """UNI's width and geometry, one block of the 24, which are alike."""
    return trunk("vit_large_patch16_224", 224, depth=1, **UNI)


@pytest.fixture(scope="module")
def program(uni):
    return export_trunk(uni, 224, 64)


def test_the_exported_trunk_is_the_trunk_for_every_batch(uni, program):
    image_NCHW = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for n in (1, 3):
            torch.testing.assert_close(program.module()(image_NCHW[:n]), uni(image_NCHW[:n]))


def test_unis_trunk_is_one_engine_for_every_batch(program):
    assert violations(program, 64) == []


def test_the_position_embedding_is_resampled_before_and_not_in_the_engine(program):
    assert not [node for node in program.graph.nodes if "upsample" in str(node.target)]


@pytest.mark.parametrize(
    ("name", "input_px", "kwargs"),
    [
        ("vit_tiny_patch16_224", 64, {"img_size": 32, "depth": 1, "dynamic_img_size": True, "reg_tokens": 4}),
        ("vit_tiny_patch16_224", 64, {"img_size": 64, "depth": 1, "mlp_layer": timm.layers.SwiGLUPacked}),
        ("test_resnet", 64, {}),
    ],
    ids=["registers-other-size", "swiglu", "cnn"],
)
def test_other_encoders_are_one_engine_in_bf16(name, input_px, kwargs):
    program = export_trunk(trunk(name, input_px, **kwargs).bfloat16(), input_px, 16, torch.bfloat16)
    assert violations(program, 16) == []


class Sorted(nn.Module):
    """A trunk with an operator that has no converter."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, image_NCHW):
        return self.linear(image_NCHW).sort(-1).values


class Counted(Sorted):
    """A trunk whose answer's shape depends on what it sees."""

    def forward(self, image_NCHW):
        return self.linear(image_NCHW)[image_NCHW[..., 0] > 0]


def test_an_operator_without_converter_is_named():
    program = export_trunk(Sorted(), 8, 4)
    assert violations(program, 4) == ["no converter for sort"]
    with pytest.raises(EngineError, match=r"x: .*one engine: no converter for sort\n.*compile"):
        require_convertible(program, 4, "x")


def test_a_shape_that_depends_on_data_is_named():
    assert any("depends on data" in found for found in violations(export_trunk(Counted(), 8, 4), 4))


def test_a_fixed_batch_or_one_too_small_is_named(uni):
    fixed = torch.export.export(Sorted(), (torch.zeros(2, 3, 8, 8),))
    assert any("is fixed at 2" in found for found in violations(fixed, 4))
    assert any("not 1 to 128" in found for found in violations(export_trunk(Sorted(), 8, 4), 128))


def test_what_cannot_be_traced_is_an_error_that_says_so():
    class Untraceable(Sorted):
        def forward(self, image_NCHW):
            return self.linear(image_NCHW) if float(image_NCHW.sum()) > 0 else image_NCHW

    with pytest.raises(EngineError, match=r"torch\.export cannot trace it"):
        export_trunk(Untraceable(), 8, 4)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None,
    reason="TensorRT for RTX is not installed: pip install -e '.[rtx]'",
)
def test_nvidias_builder_makes_an_engine_of_unis_trunk(uni):
    from bench.teachers.build_check import build

    # Every linear layer of the block is in it, two bytes a weight.
    program = export_trunk(copy.deepcopy(uni).bfloat16(), 224, 8, torch.bfloat16)
    assert build(program, 8, "SM89") > 2 * 12 * 1024**2
