import re
import subprocess
import sys

import pytest
import timm
import torch
from project import ROOT
from safetensors.torch import save_file

from pipeline.base.errors import TeacherError
from pipeline.params.tokens import TokensParams
from pipeline.teachers.dinov2_names import dinov2_names
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.registry import TEACHERS, entry_of, mpp_warning

TIMM_NAMES = sorted(name for name, entry in TEACHERS.items() if entry.architecture)


def shallow(name, device="cpu"):
    """The state of a registry teacher one block deep, at random; of names and shapes alone on the device `meta`."""
    entry = TEACHERS[name]
    layers = {"SwiGLUPacked": timm.layers.SwiGLUPacked, "SiLU": torch.nn.SiLU}
    kwargs = {
        key: layers.get(value, value) if isinstance(value, str) else value for key, value in entry.model_kwargs.items()
    }
    torch.manual_seed(0)
    with torch.device(device):
        return timm.create_model(entry.architecture, num_classes=0, **{**kwargs, "depth": 1}).state_dict()


def test_the_registry_is_read_without_torch_or_timm():
    code = "import sys, pipeline.teachers.registry; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_an_entry_builds_the_teacher_that_it_describes(name, store, tmp_path):
    state = {key: torch.zeros(value.shape) for key, value in shallow(name, "meta").items()}
    save_file(state, tmp_path / "w.safetensors")
    entry = TEACHERS[name]
    params = TokensParams(teacher=name, weights=str(tmp_path / "w.safetensors"), model_kwargs={"depth": 1})
    teacher = load_teacher(params, store, 512)
    assert (teacher.width, teacher.grid, teacher.n_prefix) == (entry.width, entry.grid, 1 + entry.registers)
    assert teacher.preparation.same_colours(entry.mean, entry.std) and teacher.input_px == entry.input_px
    assert teacher.cls_is_token and teacher.final_norm is not None
    assert teacher.describe()["model_kwargs"] == {**entry.model_kwargs, "depth": 1}


def test_a_teacher_of_another_shape_is_no_match_for_its_entry(store, tmp_path):
    torch.manual_seed(0)
    narrow = {"depth": 1, "embed_dim": 96, "num_heads": 2}
    save_file(
        timm.create_model("vit_large_patch16_224", num_classes=0, init_values=1e-5, **narrow).state_dict(),
        tmp_path / "w.safetensors",
    )
    params = TokensParams(teacher="uni", weights=str(tmp_path / "w.safetensors"), model_kwargs=narrow)
    with pytest.raises(TeacherError, match=r"teacher uni: does not match its registry entry: width 96, not 1024\n"):
        load_teacher(params, store, 512)


def test_a_teacher_that_is_only_on_the_hub_says_what_local_weights_need(store):
    with pytest.raises(TeacherError, match=r"architecture is not known here\n.*timm's name"):
        load_teacher(TokensParams(teacher="h0-mini", weights="w.safetensors"), store, 512)


def test_an_unknown_layer_is_named(tiny_params, store):
    params = tiny_params.model_copy(update={"model_kwargs": {**tiny_params.model_kwargs, "act_layer": "SiLUU"}})
    with pytest.raises(TeacherError, match=r"no layer is called 'SiLUU'\n.*SwiGLUPacked"):
        load_teacher(params, store, 512)


@pytest.mark.parametrize("name", ["uni", "hf-hub:MahmoodLab/UNI", "hf_hub:MahmoodLab/uni"])
def test_the_hubs_name_finds_the_entry_too(name):
    assert entry_of(name) is TEACHERS["uni"]
    assert entry_of("vit_tiny_patch16_224") is None


def test_uni_and_its_kin_say_that_derivatives_are_no_commercial_goods():
    assert all("commercial" in TEACHERS[name].licence_note for name in ("uni", "uni2-h"))


@pytest.mark.parametrize(
    ("target_mpp", "tile_px", "warned"), [(0.5, 224, False), (0.5, 256, False), (0.25, 224, True), (0.5, 512, True)]
)
def test_tiles_of_another_resolution_than_the_teachers_are_warned_of(target_mpp, tile_px, warned):
    said = mpp_warning("uni", target_mpp, tile_px, 224)
    assert (said is not None) == warned and (said is None or "made for 0.5" in said)
    assert mpp_warning("virchow2", 0.25, 224, 224) is None and mpp_warning("vit_tiny_patch16_224", 9, 224, 224) is None


def as_transformers_names(state):
    """What transformers' Dinov2Model calls the weights of timm's ViT, written down independently of the code."""
    named = {"embeddings.mask_token": torch.zeros(1, 1024)}
    for name, value in state.items():
        name = name.replace("cls_token", "embeddings.cls_token").replace("pos_embed", "embeddings.position_embeddings")
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        name = re.sub(r"^norm\.", "layernorm.", re.sub(r"^blocks\.", "encoder.layer.", name))
        name = re.sub(r"ls(\d)\.gamma", r"layer_scale\1.lambda1", name.replace("attn.proj", "attention.output.dense"))
        if "attn.qkv" in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                named[name.replace("attn.qkv", f"attention.attention.{part}")] = third.clone()
        else:
            named[name] = value
    return named


def test_phikons_weights_as_transformers_saves_them_are_timms(store, tmp_path):
    state = shallow("phikon-v2")
    foreign = as_transformers_names(state)
    assert "encoder.layer.0.attention.attention.query.weight" in foreign
    back = dinov2_names(foreign)
    assert back.keys() == {*state, "mask_token"} and all(torch.equal(back[name], state[name]) for name in state)
    save_file(foreign, tmp_path / "model.safetensors")
    params = TokensParams(teacher="phikon-v2", weights=str(tmp_path / "model.safetensors"), model_kwargs={"depth": 1})
    assert load_teacher(params, store, 512).width == 1024


def test_timms_own_names_stay():
    state = {"blocks.0.attn.qkv.weight": torch.zeros(3), "head.weight": torch.zeros(1)}
    assert dinov2_names(state) == state
