import numpy as np
import pytest
import timm
import torch

from pipeline.base.errors import TeacherError
from pipeline.params.tokens import TokensParams
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.preparation import Preparation
from pipeline.teachers.teacher import Teacher

HALVES = (0.5, 0.5, 0.5)


def random_teacher(name, input_px, **model_kwargs):
    torch.manual_seed(0)
    return Teacher(name, timm.create_model(name, num_classes=0, **model_kwargs), input_px, Preparation(HALVES, HALVES))


def images(n, side_px):
    return torch.randn(n, 3, side_px, side_px, generator=torch.Generator().manual_seed(1))


def test_uni_geometry_gives_the_class_token_and_14_x_14_patch_tokens():
    uni = random_teacher("vit_large_patch16_224", 224, init_values=1e-5, dynamic_img_size=True, depth=2)
    assert (uni.width, uni.grid, uni.tokens) == (1024, (14, 14), 196)
    image_NCHW = images(1, 224)
    with torch.inference_mode():
        cls_ND, patch_NTD = uni(image_NCHW)
        features = uni.model.forward_features(image_NCHW)
        assert torch.equal(cls_ND, uni.model(image_NCHW))
    assert torch.equal(cls_ND, features[:, 0]) and torch.equal(patch_NTD, features[:, 1:])


@pytest.mark.parametrize(
    ("name", "input_px", "kwargs", "normed_in_finish", "cls_is_token"),
    [
        ("vit_large_patch16_224", 224, {"init_values": 1e-5, "dynamic_img_size": True, "depth": 1}, True, True),
        ("vit_tiny_patch16_224", 64, {"img_size": 64, "depth": 1, "reg_tokens": 4, "no_embed_class": True}, True, True),
        (
            "vit_tiny_patch16_224",
            64,
            {"img_size": 64, "depth": 1, "class_token": False, "global_pool": "avg"},
            False,
            False,
        ),
        ("vit_tiny_patch16_224", 64, {"img_size": 64, "depth": 1, "global_pool": "map"}, True, False),
        ("vit_tiny_patch16_224", 64, {"img_size": 64, "depth": 1, "global_pool": "avg", "fc_norm": False}, True, False),
        ("eva02_tiny_patch14_224", 56, {"img_size": 56, "depth": 1}, False, False),
        ("swin_tiny_patch4_window7_224", 64, {"img_size": 64, "depths": (1, 1, 1, 1), "embed_dim": 24}, False, False),
        ("test_resnet", 96, {}, False, False),
    ],
    ids=["uni", "registers", "fc-norm", "attention-pool", "mean-of-normed", "eva", "nhwc-map", "cnn"],
)
def test_trunk_and_finish_are_timms_own_features_bit_for_bit(name, input_px, kwargs, normed_in_finish, cls_is_token):
    teacher = random_teacher(name, input_px, **kwargs)
    names = list(teacher.model.state_dict())
    assert (teacher.final_norm is not None, teacher.cls_is_token) == (normed_in_finish, cls_is_token)
    with torch.inference_mode():
        features = teacher.model.forward_features(images(2, input_px))
        raw = teacher.trunk(images(2, input_px))
        expected = teacher._split(features)
        got = teacher.finish(raw)
    assert torch.equal(raw, features) == (not normed_in_finish)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert [f"model.{key}" for key in names] == list(teacher.state_dict())


def test_moving_the_teacher_moves_its_trunk():
    teacher = random_teacher("vit_tiny_patch16_224", 64, img_size=64, depth=1).to(torch.float64)
    with torch.inference_mode():
        assert teacher.trunk(images(1, 64).double()).dtype == torch.float64


def test_register_tokens_are_no_patch_tokens():
    teacher = random_teacher("vit_tiny_patch16_224", 64, img_size=64, depth=1, reg_tokens=4)
    assert teacher.model.num_prefix_tokens == 5 and teacher.tokens == 16
    with torch.inference_mode():
        _, patch_NTD = teacher(images(2, 64))
        assert torch.equal(patch_NTD, teacher.model.forward_features(images(2, 64))[:, 5:])


def test_a_vit_without_class_token_is_pooled_as_timm_pools_it():
    teacher = random_teacher(
        "vit_tiny_patch16_224", 64, img_size=64, depth=1, class_token=False, global_pool="avg", fc_norm=False
    )
    with torch.inference_mode():
        cls_ND, patch_NTD = teacher(images(2, 64))
        assert torch.equal(cls_ND, teacher.model(images(2, 64)))
    assert patch_NTD.shape == (2, 16, 192)


def test_a_cnn_gives_its_map_row_by_row_and_its_mean():
    teacher = random_teacher("test_resnet", 96)
    with torch.inference_mode():
        cls_ND, patch_NTD = teacher(images(2, 96))
        map_NDHW = teacher.model.forward_features(images(2, 96))
    h, w = teacher.grid
    assert torch.equal(patch_NTD[:, w + 1], map_NDHW[:, :, 1, 1]) and patch_NTD.shape == (2, h * w, teacher.width)
    torch.testing.assert_close(cls_ND, map_NDHW.mean((2, 3)))


def test_a_map_with_channels_last_is_read_as_such():
    teacher = random_teacher("swin_tiny_patch4_window7_224", 64, img_size=64, depths=(1, 1, 1, 1), embed_dim=24)
    assert (teacher.width, teacher.grid) == (24 * 8, (2, 2))


def test_an_image_side_that_the_model_refuses_says_what_to_set():
    with pytest.raises(TeacherError, match=r"refuses images of 96 px.*\n.*img_size"):
        random_teacher("vit_tiny_patch16_224", 96, depth=1)


def test_normalising_maps_bytes_to_what_timm_would_feed(tiny_params, store):
    teacher = load_teacher(tiny_params, store, 512)
    image_HWC = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    got = teacher.normalise(torch.from_numpy(image_HWC)[None])
    cfg = timm.data.resolve_data_config(model=teacher.model)
    expected_HWC = (image_HWC / 255 - np.array(cfg["mean"])) / np.array(cfg["std"])
    assert teacher.preparation.mean == cfg["mean"] and teacher.input_px == 32
    np.testing.assert_allclose(got[0].permute(1, 2, 0).numpy(), expected_HWC, atol=1e-6)


def test_real_weights_are_read_with_the_map_that_their_readme_states(real_data, store):
    weights = real_data / "teachers" / "tf_efficientnet_lite2.safetensors"
    params = TokensParams(teacher="tf_efficientnet_lite2", weights=str(weights), input_px=224)
    teacher = load_teacher(params, store, 512)
    assert (teacher.width, teacher.grid, teacher.preparation.mean) == (1280, (7, 7), HALVES)
