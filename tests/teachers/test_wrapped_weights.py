"""Weights as training code leaves them: in dicts, under prefixes, with other names and other sides."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from made.teacher import TINY
from safetensors.torch import load_file, save_file

from pipeline.base.errors import TeacherError
from pipeline.teachers.loading import load_teacher

PREFIXES = (
    "module.",
    "teacher.backbone.",
    "backbone.",
    "model.",
    "encoder.",
    "_orig_mod.module.",
)


def load(params, store, path=None, **update):
    update |= {} if path is None else {"weights": str(path)}
    return load_teacher(params.model_copy(update=update), store, 512)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_is_taken_off_and_said(prefix, tiny_params, tiny_weights, store, tmp_path):
    save_file({prefix + name: value for name, value in load_file(tiny_weights).items()}, tmp_path / "w.safetensors")
    teacher = load(tiny_params, store, tmp_path / "w.safetensors")
    assert teacher.weights_digest == load(tiny_params, store).weights_digest
    assert any("took the" in remark for remark in teacher.remarks)


def test_a_wrapper_between_the_names_is_taken_off(tiny_params, tiny_weights, store, tmp_path):
    state = {name.replace("blocks.1.", "blocks.1._orig_mod."): v for name, v in load_file(tiny_weights).items()}
    assert any("_orig_mod" in name for name in state)
    save_file(state, tmp_path / "w.safetensors")
    same = load(tiny_params, store, tmp_path / "w.safetensors")
    assert same.weights_digest == load(tiny_params, store).weights_digest and same.remarks


@pytest.mark.parametrize(
    ("suffix", "within"),
    [
        (".pt", ("state_dict",)),
        (".pth", ("teacher", "backbone")),
        (".bin", ("model",)),
        (".pth", ("student",)),
        (".pt", ("model", "state_dict")),
        (".ckpt", ("target_encoder",)),
        (".pth", ("what somebody calls it",)),
    ],
)
def test_nested_dicts_are_opened(suffix, within, tiny_params, tiny_weights, store, tmp_path):
    found = load_file(tiny_weights)
    for name in reversed(within):
        found = {name: found, "epoch": 3, "args": argparse.Namespace(lr=1e-4, out=Path("/x")), "best": np.float64(0.9)}
    torch.save(found, tmp_path / f"w{suffix}")
    teacher = load(tiny_params, store, tmp_path / f"w{suffix}")
    assert teacher.weights_digest == load(tiny_params, store).weights_digest
    assert f"read from {'/'.join(within)} in the file" in teacher.remarks


def test_of_teacher_and_student_the_teacher_is_taken_and_the_rest_is_said(tiny_params, tiny_weights, store, tmp_path):
    state = load_file(tiny_weights)
    wrapped = {f"module.backbone.{name}": value for name, value in state.items()}
    head = {"module.head.mlp.0.weight": torch.zeros(2, 2)}
    other = {name: value + 1 for name, value in wrapped.items()} | head
    torch.save({"student": other, "teacher": wrapped | head, "optimizer": {"lr": 1e-4}}, tmp_path / "w.pth")
    teacher = load(tiny_params, store, tmp_path / "w.pth")
    assert teacher.weights_digest == load(tiny_params, store).weights_digest
    said = "\n".join(teacher.remarks)
    assert "took 'teacher' of the file, not 'student'" in said
    assert "'module.backbone.'" in said and "module.head.mlp.0.weight" in said


def test_of_two_prefixes_the_teachers_is_taken(tiny_params, tiny_weights, store, tmp_path):
    state = load_file(tiny_weights)
    flat = {f"student.backbone.{name}": value + 1 for name, value in state.items()}
    flat |= {f"teacher.backbone.{name}": value for name, value in state.items()}
    save_file(flat, tmp_path / "w.safetensors")
    teacher = load(tiny_params, store, tmp_path / "w.safetensors")
    assert teacher.weights_digest == load(tiny_params, store).weights_digest
    assert any("'student.backbone.'" in remark for remark in teacher.remarks)


def test_a_prefix_hides_no_missing_key(tiny_params, tiny_weights, store, tmp_path):
    state = {f"backbone.{name}": value for name, value in load_file(tiny_weights).items() if name != "norm.bias"}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(TeacherError, match=r"missing: norm\.bias; unexpected: none"):
        load(tiny_params, store, tmp_path / "w.safetensors")


SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}


@pytest.mark.parametrize("chunked", [False, True], ids=["blocks", "chunks"])
@pytest.mark.parametrize("masked", [True, False], ids=["mask_token", "without"])
def test_dinov2s_own_names_with_registers_are_timms(masked, chunked, tiny_params, store, tmp_path):
    """DINOv2 adds the position to the class token only where it runs, and keeps SwiGLU under w12 and w3."""
    registers = {**TINY, "reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5}
    layers = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    torch.manual_seed(1)
    state = timm.create_model("vit_tiny_patch16_224", num_classes=0, **registers, **layers).state_dict()
    position_of_cls = torch.randn(1, 1, 24)
    own = {}
    for name, value in state.items():
        name = name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3").replace("reg_token", "register_tokens")
        own[name.replace("blocks.", "blocks.0.") if chunked else name] = value
    own["pos_embed"] = torch.cat([position_of_cls, state["pos_embed"]], 1)
    own["cls_token"] = state["cls_token"] - position_of_cls
    if masked:
        own["mask_token"] = torch.zeros(1, 24)
    save_file(own, tmp_path / "w.safetensors")
    teacher = load(tiny_params, store, tmp_path / "w.safetensors", model_kwargs={**registers, **SWIGLU})
    loaded = teacher.model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.allclose(loaded[name], state[name], atol=1e-6) for name in state)


def test_positions_of_another_side_are_resampled_by_timm_and_said(tiny_params, store, tmp_path):
    torch.manual_seed(2)
    large = timm.create_model("vit_tiny_patch16_224", num_classes=0, **{**TINY, "img_size": 64}).state_dict()
    save_file(large, tmp_path / "w.safetensors")
    teacher = load(tiny_params, store, tmp_path / "w.safetensors")
    assert "resampled pos_embed from 8 x 8 to 4 x 4 positions" in teacher.remarks
    expected = timm.layers.resample_abs_pos_embed(large["pos_embed"], (4, 4), num_prefix_tokens=1)
    assert torch.equal(teacher.model.state_dict()["pos_embed"], expected)


def test_a_kernel_of_other_patches_is_not_resampled(tiny_params, store, tmp_path):
    other = timm.create_model("vit_tiny_patch16_224", num_classes=0, **{**TINY, "patch_size": 16}).state_dict()
    save_file(other, tmp_path / "w.safetensors")
    with pytest.raises(TeacherError, match=r"shapes differ: patch_embed\.proj\.weight is \(24, 3, 16, 16\)"):
        load(tiny_params, store, tmp_path / "w.safetensors")


def test_a_convolutional_networks_prefix_is_taken_off_too(tiny_params, store, tmp_path):
    torch.manual_seed(3)
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    torch.save({"state_dict": {f"module.encoder_q.{name}": v for name, v in state.items()}}, tmp_path / "moco.pth")
    params = {"teacher": "test_resnet", "model_kwargs": {}, "input_px": 64}
    teacher = load(tiny_params, store, tmp_path / "moco.pth", **params)
    assert all(torch.equal(value, state[name]) for name, value in teacher.model.state_dict().items())


@pytest.mark.parametrize("average", ["ema", "ema_state_dict", "params_ema", "teacher_state_dict", "target_encoder"])
def test_a_moving_average_goes_before_what_it_is_of(average, tiny_params, tiny_weights, store, tmp_path):
    state = load_file(tiny_weights)
    torch.save({"model": {name: value + 1 for name, value in state.items()}, average: state}, tmp_path / "w.pth")
    teacher = load(tiny_params, store, tmp_path / "w.pth")
    assert teacher.weights_digest == load(tiny_params, store).weights_digest
    assert f"took {average!r} of the file, not 'model'" in teacher.remarks


def test_of_several_states_under_strange_names_none_is_guessed(tiny_params, tiny_weights, store, tmp_path):
    state = load_file(tiny_weights)
    other, adam = {name: value + 1 for name, value in state.items()}, {"state": {0: {"exp_avg": torch.zeros(2)}}}
    torch.save({"a": state, "b": other, "optimizer": adam}, tmp_path / "w.pth")
    with pytest.raises(TeacherError, match=r"holds several state_dicts: a, b"):
        load(tiny_params, store, tmp_path / "w.pth")


def test_a_file_is_read_by_its_bytes_and_not_by_its_suffix(tiny_params, tiny_weights, store, tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(tiny_weights.read_bytes())
    torch.save(load_file(tiny_weights), tmp_path / "w.safetensors")
    for name in ("pytorch_model.bin", "w.safetensors"):
        teacher = load(tiny_params, store, tmp_path / name)
        assert teacher.weights_digest == load(tiny_params, store).weights_digest


def test_what_holds_no_real_numbers_is_refused(tiny_params, tiny_weights, store, tmp_path):
    """torch would cast integers to real numbers, and the teacher would answer nonsense."""
    state = load_file(tiny_weights)
    torch.save({name: (value * 100).to(torch.int8) for name, value in state.items()}, tmp_path / "int8.pth")
    with pytest.raises(TeacherError, match=r"(?s)not real numbers: .*torch\.int8.*not quantised"):
        load(tiny_params, store, tmp_path / "int8.pth")
    state["norm.bias"][3] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(TeacherError, match=r"NaN or infinite: norm\.bias"):
        load(tiny_params, store, tmp_path / "nan.safetensors")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (POINTER, r"(?s)pointer of Git LFS.*-> git lfs pull"),
        (b"<!doctype html><p>sign in", r"(?s)page of HTML.*-> fetch the file again"),
        (b"", r"is empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), r"(?s)neither safetensors nor saved by torch.*-> save its state_dict"),
    ],
    ids=["lfs", "html", "empty", "hdf5"],
)
def test_what_is_no_file_of_weights_is_named_with_a_remedy_that_fits(held, said, tiny_params, store, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(held)
    with pytest.raises(TeacherError, match=said):
        load(tiny_params, store, tmp_path / "w.safetensors")


def test_a_folder_and_other_archives_are_named_too(tiny_params, store, tmp_path):
    with pytest.raises(TeacherError, match=r"(?s)is a folder.*name the file in it"):
        load(tiny_params, store, tmp_path)
    np.savez(tmp_path / "w.npz", a=np.zeros(2))
    with pytest.raises(TeacherError, match="is an archive, and not torch's"):
        load(tiny_params, store, tmp_path / "w.npz")


def test_what_a_pickle_would_run_is_named(tiny_params, store, tmp_path):
    torch.save({"model": {"a": torch.zeros(1)}, "then": pytest.Class}, tmp_path / "w.pth")
    with pytest.raises(TeacherError, match=r"holds _pytest\.python\.Class beside tensors"):
        load(tiny_params, store, tmp_path / "w.pth")
