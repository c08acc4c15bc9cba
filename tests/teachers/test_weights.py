import subprocess
import traceback

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from pipeline.base.errors import TeacherError
from pipeline.params.tokens import TokensParams
from pipeline.teachers.loading import load_teacher


def load(params, store, **update):
    return load_teacher(params.model_copy(update=update), store, 512)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_pytorch_files_give_the_same_teacher_as_safetensors(suffix, tiny_params, tiny_weights, store, tmp_path):
    path = tmp_path / f"teacher{suffix}"
    torch.save({"state_dict": load_file(tiny_weights)}, path)
    same = load(tiny_params, store, weights=str(path)).weights_digest
    assert same == load(tiny_params, store).weights_digest


def test_the_digest_knows_one_changed_weight(tiny_params, tiny_weights, store, tmp_path):
    state = load_file(tiny_weights)
    state["cls_token"][0, 0, 0] += 1e-6
    save_file(state, tmp_path / "other.safetensors")
    other = load(tiny_params, store, weights=str(tmp_path / "other.safetensors"))
    assert other.weights_digest != load(tiny_params, store).weights_digest


def test_a_classifier_in_the_file_is_left_out(tiny_params, tiny_weights, store, tmp_path):
    state = load_file(tiny_weights) | {"head.weight": torch.zeros(7, 24), "head.bias": torch.zeros(7)}
    save_file(state, tmp_path / "with_head.safetensors")
    with_head = load(tiny_params, store, weights=str(tmp_path / "with_head.safetensors"))
    assert with_head.weights_digest == load(tiny_params, store).weights_digest


def test_weights_of_another_architecture_name_some_keys(tiny_params, store, tmp_path):
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "resnet.safetensors")
    with pytest.raises(TeacherError, match=r"missing: blocks\.0\..* and \d+ more; unexpected: bn1"):
        load(tiny_params, store, weights=str(tmp_path / "resnet.safetensors"))


def test_weights_of_another_width_name_the_shapes(tiny_params, store):
    narrow = tiny_params.model_kwargs | {"embed_dim": 12}
    with pytest.raises(TeacherError, match=r"shapes differ: .* not \(36, 12\)|shapes differ"):
        load(tiny_params, store, model_kwargs=narrow)


def test_a_damaged_safetensors_file_is_said_to_be_so(tiny_params, tiny_weights, store, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(tiny_weights.read_bytes()[:-100])
    with pytest.raises(TeacherError, match="cannot be read"):
        load(tiny_params, store, weights=str(path))


def test_a_damaged_pytorch_file_is_said_to_be_so(tiny_params, tiny_weights, store, tmp_path):
    path = tmp_path / "cut.pt"
    torch.save(load_file(tiny_weights), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(TeacherError, match=r"cannot be read|damaged"):
        load(tiny_params, store, weights=str(path))


def test_a_file_that_would_run_code_is_not_read(tiny_params, store, tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"x": subprocess.Popen}, path)
    with pytest.raises(TeacherError, match=r"holds \w+\.Popen beside tensors"):
        load(tiny_params, store, weights=str(path))


def test_an_absent_file_is_said_to_be_so(tiny_params, store):
    with pytest.raises(TeacherError, match="no such file"):
        load(tiny_params, store, weights="nowhere/teacher.pt")


def test_an_unknown_name_gets_the_nearest_ones(store):
    with pytest.raises(TeacherError, match=r"did you mean .*vit_large_patch16_224"):
        load_teacher(TokensParams(teacher="vit_large_patch16_24"), store, 512)
    with pytest.raises(TeacherError, match=r"did you mean uni,"):
        load_teacher(TokensParams(teacher="unii"), store, 512)


def test_unknown_model_kwargs_are_refused(tiny_params, store):
    with pytest.raises(TeacherError, match="no_such_argument"):
        load(tiny_params, store, model_kwargs={"no_such_argument": 1})


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "hf-hub:MahmoodLab/UNI"])
def test_without_weights_and_offline_nothing_is_left_at_random_and_no_token_is_shown(
    name, store, tmp_path, monkeypatch, capfd
):
    secret = "hf_secretsecret"
    monkeypatch.setenv("HF_TOKEN", secret)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TeacherError, match=r"cannot be fetched.*\n.*weights:.*huggingface-cli login") as caught:
        load_teacher(TokensParams(teacher=name), store, 512)
    assert secret not in "".join((*capfd.readouterr(), *traceback.format_exception(caught.value)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("UNI", r"did you mean uni,"),
        ("Demo", r"did you mean demo,"),
        ("/data/uni.pth", r"a file is `weights:`"),
        ("https://huggingface.co/MahmoodLab/UNI", r"(?s)not a name that timm reads.*hf-hub:owner/name"),
        ("vit_tiny_patch16_224.none", r"its weights are: vit_tiny_patch16_224\.augreg_in21k"),
        ("local-dir:nowhere", r"(?s)cannot be read.*name a folder with config\.json"),
    ],
)
def test_a_teachers_name_that_is_none_has_a_remedy_that_fits(name, said, store):
    with pytest.raises(TeacherError, match=said):
        load_teacher(TokensParams(teacher=name), store, 512)


def test_what_no_weights_can_show_is_said(tiny_params, store):
    told = tiny_params.model_kwargs | {"num_heads": 3}
    remarks = load(tiny_params, store, model_kwargs=told).remarks
    assert "no weights can show whether num_heads: 3 (tokens.model_kwargs) is theirs" in remarks


@pytest.mark.parametrize("key", ["device", "dtype"])
def test_where_a_network_runs_is_no_argument_of_it(key, tiny_params, store):
    with pytest.raises(TeacherError, match=f"{key} is not yours to set"):
        load(tiny_params, store, model_kwargs=tiny_params.model_kwargs | {key: "meta"})
