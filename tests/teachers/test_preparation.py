"""Whose mean, deviation and filter a teacher's input is made by, and what is said of local weights."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from pipeline.base.errors import TeacherError
from pipeline.params.tokens import TokensParams
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.preparation import Preparation, hints
from pipeline.teachers.registry import TEACHERS
from pipeline.tiles.pixels import fit_square

LARGE = {"depth": 1, "init_values": 1e-5, "mlp_ratio": 0.25}
HALVES, IMAGENET = (0.5, 0.5, 0.5), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """One block of UNI's geometry, with a narrow layer, under a name that says nothing."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("large") / "w.safetensors"
    save_file(timm.create_model("vit_large_patch16_224", num_classes=0, **LARGE).state_dict(), path)
    return path


def test_what_the_params_say_of_the_colours_is_what_the_teacher_sees(tiny_params, store):
    told = tiny_params.model_copy(update={"mean": (0.7, 0.6, 0.5), "std": (0.2, 0.3, 0.4)})
    teacher, timms = load_teacher(told, store, 512), load_teacher(tiny_params, store, 512)
    image_NHWC = torch.full((1, 32, 32, 3), 51, dtype=torch.uint8)
    expected = (0.2 - torch.tensor([0.7, 0.6, 0.5])) / torch.tensor([0.2, 0.3, 0.4])
    assert torch.allclose(teacher.normalise(image_NHWC)[0, :, 0, 0], expected)
    assert "tokens.mean and tokens.std" in teacher.preparation.told(32)
    assert "timm's for vit_tiny_patch16_224" in timms.preparation.told(32)
    assert teacher.describe()["mean"] == [0.7, 0.6, 0.5] and teacher.describe() != timms.describe()


def test_where_the_params_say_nothing_the_recipe_says_what_it_said_before(tiny_params, store):
    plain = load_teacher(tiny_params, store, 512).describe()
    assert set(plain) == {"name", "weights_digest", "width", "grid", "input_px", "mean", "std", "model_kwargs"}
    told = tiny_params.model_copy(update={"mean": HALVES, "std": HALVES, "interpolation": "bicubic"})
    assert load_teacher(told, store, 512).describe() == plain
    other = tiny_params.model_copy(update={"interpolation": "bilinear"})
    assert load_teacher(other, store, 512).describe() == plain | {"interpolation": "bilinear"}


def test_the_params_go_over_the_registry_too(large, store):
    params = TokensParams(teacher="uni", weights=str(large), model_kwargs=LARGE, mean=HALVES)
    teacher = load_teacher(params, store, 512)
    assert teacher.preparation == Preparation(HALVES, IMAGENET[1], said_by="tokens.mean, else the registry's")


@pytest.mark.parametrize("interpolation", ["bilinear", "lanczos", "nearest"])
def test_tiles_of_another_side_are_resized_by_the_filter_that_was_told(interpolation):
    rgb_HWC = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    resample = Preparation(HALVES, HALVES, interpolation).resample
    by_hand = np.asarray(Image.fromarray(rgb_HWC).resize((32, 32), resample))
    assert np.array_equal(fit_square(rgb_HWC, 32, resample), by_hand)
    assert not np.array_equal(fit_square(rgb_HWC, 32), by_hand)


def test_crops_go_with_the_bicubic_filter_alone():
    with pytest.raises(ValueError, match=r"augment\.views"):
        TokensParams(teacher="uni", interpolation="bilinear", augment={"views": 1})


def _said(large, store, tmp_path, name, **update):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(large)
    params = TokensParams(teacher="vit_large_patch16_224", weights=str(path), model_kwargs=LARGE, **update)
    return load_teacher(params, store, 512).remarks


def test_a_registry_entry_of_the_same_geometry_is_pointed_out_with_what_to_set(large, store, tmp_path):
    (said,) = _said(large, store, tmp_path, "checkpoint.safetensors")
    assert "uni" in said and "phikon-v2" in said and "virchow2" not in said
    assert "set tokens.teacher: uni" in said and f"tokens.mean: {list(IMAGENET[0])}" in said


@pytest.mark.parametrize("name", ["uni_v1.safetensors", "models--MahmoodLab--UNI/snapshots/abc/model.safetensors"])
def test_a_pathology_name_is_pointed_out_and_what_was_told_ends_it(name, large, store, tmp_path):
    (said,) = _said(large, store, tmp_path, name)
    assert "looks like a pathology encoder" in said and "set tokens.teacher: uni" in said
    assert _said(large, store, tmp_path / "told", name, mean=IMAGENET[0], std=IMAGENET[1]) == ()


def test_a_pathology_name_that_the_registry_does_not_have_asks_for_its_makers_values(tiny_params, store, tmp_path):
    path = tmp_path / "conch_v1_5.safetensors"
    path.symlink_to(tiny_params.weights)
    said, _ = load_teacher(tiny_params.model_copy(update={"weights": str(path)}), store, 512).remarks
    assert "conch" in said and "tokens.mean and tokens.std" in said


def test_what_a_hint_says_to_set_ends_it(large, store):
    entry = TEACHERS["uni"]
    params = TokensParams(teacher="uni", weights=str(large), model_kwargs=LARGE)
    teacher = load_teacher(params, store, 512)
    assert teacher.remarks == () and teacher.preparation.same_colours(entry.mean, entry.std)


def test_a_filter_that_timm_names_otherwise_is_said(tiny_params, store):
    teacher = load_teacher(tiny_params, store, 512)
    (said,) = hints(tiny_params, teacher, {"interpolation": "bilinear"})
    assert "set tokens.interpolation: bilinear" in said
    told = tiny_params.model_copy(update={"interpolation": "bilinear"})
    assert hints(told, teacher, {"interpolation": "bilinear"}) == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("depth", -1),
        ("depth", "2"),
        ("depth", 2.0),
        ("depth", 0),
        ("num_heads", 5),
        ("num_heads", 0),
        ("patch_size", "abc"),
        ("img_size", [32, 48]),
        ("img_size", "32"),
        ("in_chans", 1),
        ("global_pool", 3),
        ("mlp_layer", 3),
        ("act_layer", None),
        ("act_layer", "init"),
        ("norm_layer", "Linear"),
        ("qkv_bias", "no"),
        ("init_values", "abc"),
        ("reg_tokens", 1.5),
        ("drop_path_rate", 2),
        ("pretrained", True),
        ("checkpoint_path", "w.pt"),
        ("no_such", 1),
    ],
)
def test_an_argument_that_timm_does_not_take_is_named(key, value, tiny_params, store):
    params = tiny_params.model_copy(update={"model_kwargs": {**tiny_params.model_kwargs, key: value}})
    with pytest.raises(TeacherError, match=rf"(?s)tokens.model_kwargs: .*\b{key}\b.*\n"):
        load_teacher(params, store, 512)
