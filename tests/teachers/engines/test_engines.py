import importlib.util
import sys

import numpy as np
import pytest
import timm
import torch

from pipeline.base.errors import EngineError, TeacherError
from pipeline.teachers.engines import Eager, build_engine, choose, pick_device, resolve_precision
from pipeline.teachers.engines.base import within_memory
from pipeline.teachers.engines.compiled import Compiled
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.preparation import Preparation
from pipeline.teachers.teacher import Teacher

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
    torch.testing.assert_close(cls_ND, expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(patch_NTD, expected[1], rtol=1e-4, atol=1e-4)


def test_bf16_is_near_and_comes_back_as_float32(tiny_params, store):
    teacher = load_teacher(tiny_params, store, 512)
    near, exact = (teacher.finish(Eager(teacher, CPU, precision)(images(3, 32)))[1] for precision in ("bf16", "fp32"))
    assert near.dtype == torch.float32 and not torch.equal(near, exact)
    assert torch.nn.functional.cosine_similarity(near, exact, dim=-1).min() > 0.99


def test_channels_last_changes_no_answer_of_a_cnn():
    torch.manual_seed(0)
    halves = (0.5, 0.5, 0.5)
    teacher = Teacher("test_resnet", timm.create_model("test_resnet", num_classes=0), 64, Preparation(halves, halves))
    with torch.inference_mode():
        expected = teacher(teacher.normalise(images(2, 64)))[1]
    got = teacher.finish(Eager(teacher, CPU, "fp32")(images(2, 64)))[1]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def cudnn_flags():
    cudnn = torch.backends.cudnn
    return cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("bf16", True)])
def test_fp32_convolves_without_tensorfloat_and_all_else_stays_as_it_was_set(precision, tf32, tiny_params, store):
    """What a GPU's convolutions would run under; no GPU has run it."""
    teacher, seen = load_teacher(tiny_params, store, 512), []

    def watching(graph, _):
        return lambda *inputs: (seen.append(cudnn_flags()), graph(*inputs))[1]

    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=True, allow_tf32=True):
        Compiled(teacher, CPU, precision, 2, backend=watching)(images(2, 32))
        teacher.trunk.register_forward_pre_hook(lambda *_: seen.append(cudnn_flags()))
        Eager(teacher, CPU, precision)(images(2, 32))
        assert cudnn_flags() == (True, True, True, True)
    assert len(seen) >= 2 and set(seen) == {(True, True, True, tf32)}


def test_a_batch_too_large_for_the_device_says_what_to_lower():
    message = r"256 tiles .* memory of cpu\n(.|\n)*tokens.batch_size"
    with pytest.raises(TeacherError, match=message), within_memory(256, CPU):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_auto_precision_is_fp32_without_a_gpu():
    assert resolve_precision("auto", CPU) == "fp32" and resolve_precision("bf16", CPU) == "bf16"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_taken_where_there_is_one():
    assert pick_device().type == "cuda"


@pytest.mark.parametrize(
    ("engine", "precision", "device", "chosen"),
    [
        ("auto", "fp32", "cpu", "eager"),
        ("compile", "bf16", "cpu", "compile"),
        ("auto", "bf16", "cuda", "tensorrt" if importlib.util.find_spec("torch_tensorrt") else "compile"),
    ],
)
def test_auto_takes_the_best_that_is_there(engine, precision, device, chosen):
    assert choose(engine, precision, torch.device(device))[0] == chosen


def test_auto_compiles_where_tensorrt_is_installed_and_broken(tmp_path, monkeypatch):
    (tmp_path / "torch_tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "torch_tensorrt", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    chosen, why = choose("auto", "bf16", torch.device("cuda"))
    assert chosen == "compile" and "libnvinfer.so.10: cannot open" in why


def test_fp8_without_tensorrt_is_an_error():
    with pytest.raises(TeacherError, match="fp8 needs TensorRT"):
        choose("eager", "fp8", torch.device("cuda"))
    with pytest.raises(TeacherError, match=r"fp8 does not run here\n.*Hopper"):
        resolve_precision("fp8", CPU)


@pytest.mark.skipif(importlib.util.find_spec("torch_tensorrt") is not None, reason="torch_tensorrt is installed")
def test_a_missing_library_names_its_extra(tiny_params, store):
    params = tiny_params.model_copy(update={"engine": "tensorrt"})
    with pytest.raises(EngineError, match=r"torch_tensorrt cannot be imported.*\n.*pip install -e '\.\[tensorrt\]'"):
        build_engine(load_teacher(tiny_params, store, 512), params, CPU, store)


def test_a_compiled_trunk_answers_as_eager_does_for_every_batch(tiny_params, store):
    """Traced and run as one graph; without Inductor, whose C++ takes 34 s to build here (and then answers the same)."""
    teacher = load_teacher(tiny_params, store, 512)
    engine = Compiled(teacher, CPU, "fp32", 4, backend="aot_eager")
    for n in (4, 3):
        expected = Eager(teacher, CPU, "fp32")(images(n, 32))
        torch.testing.assert_close(engine(images(n, 32)), expected, rtol=1e-4, atol=1e-4)
