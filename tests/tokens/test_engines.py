import numpy as np
import pytest
import timm
import torch

from pipeline.tokens.engines import Eager, build_engine, pick_device, resolve_precision
from pipeline.tokens.loading import load_teacher
from pipeline.tokens.teacher import Teacher

CPU = torch.device("cpu")


def images(n, side_px):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, side_px, side_px, 3), np.uint8))


def test_auto_is_eager_and_says_so(tiny_params, store, capsys):
    teacher = load_teacher(tiny_params, store, 512)
    assert build_engine(teacher, tiny_params, CPU, store).name == "eager"
    assert "engine auto -> eager, fp32 on cpu (no GPU, " in capsys.readouterr().err


def test_eager_fp32_is_the_teacher_itself(tiny_params, store):
    teacher = load_teacher(tiny_params, store, 512)
    cls_ND, patch_NTD = teacher.finish(Eager(teacher, CPU, "fp32")(images(3, 32)))
    with torch.inference_mode():
        expected = teacher(teacher.normalise(images(3, 32)))
    torch.testing.assert_close(cls_ND, expected[0])
    torch.testing.assert_close(patch_NTD, expected[1])


def test_bf16_is_near_and_comes_back_as_float32(tiny_params, store):
    teacher = load_teacher(tiny_params, store, 512)
    near, exact = (teacher.finish(Eager(teacher, CPU, precision)(images(3, 32)))[1] for precision in ("bf16", "fp32"))
    assert near.dtype == torch.float32 and not torch.equal(near, exact)
    assert torch.nn.functional.cosine_similarity(near, exact, dim=-1).min() > 0.99


def test_channels_last_changes_no_answer_of_a_cnn():
    torch.manual_seed(0)
    halves = (0.5, 0.5, 0.5)
    teacher = Teacher("test_resnet", timm.create_model("test_resnet", num_classes=0), 64, halves, halves)
    with torch.inference_mode():
        expected = teacher(teacher.normalise(images(2, 64)))[1]
    got = teacher.finish(Eager(teacher, CPU, "fp32")(images(2, 64)))[1]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_auto_precision_is_fp32_without_a_gpu():
    assert resolve_precision("auto", CPU) == "fp32" and resolve_precision("bf16", CPU) == "bf16"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_taken_where_there_is_one():
    assert pick_device().type == "cuda"
