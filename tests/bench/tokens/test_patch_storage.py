import pytest
import torch

from bench.tokens.patch_storage import DEFAULT, SCHEMES, losses, split_halves, synthetic_tokens


@pytest.fixture(scope="module")
def rows():
    return {row["scheme"]: row for row in losses(split_halves(synthetic_tokens(), "test"))}


def test_every_scheme_has_its_row(rows):
    assert list(rows) == list(SCHEMES)


def test_the_default_keeps_vit_like_tokens_within_a_hundredth(rows):
    assert rows[DEFAULT]["relative_l2"] < 0.01
    assert rows[DEFAULT]["one_minus_cosine"] < 1e-4
    assert rows[DEFAULT]["bytes_per_element"] < 1.01


def test_the_default_loses_less_than_any_other_of_a_byte_and_more_than_fp16(rows):
    byte_each = [row for name, row in rows.items() if name != DEFAULT and 0.9 < row["bytes_per_element"] < 1.1]
    assert byte_each and all(rows[DEFAULT]["relative_l2"] < row["relative_l2"] for row in byte_each)
    assert rows["fp16, standardised"]["relative_l2"] < rows[DEFAULT]["relative_l2"]


def test_heavy_tails_are_what_the_rotation_is_for():
    patch_NTD = torch.randn(40, 50, 256, generator=torch.Generator().manual_seed(0)).relu() ** 4
    rows = {row["scheme"]: row["relative_l2"] for row in losses(split_halves(patch_NTD, "test"))}
    assert rows[DEFAULT] < 0.011 and rows["int8, standardised"] > 1.5 * rows[DEFAULT]


def test_the_default_keeps_a_real_teachers_tokens_within_a_hundredth(real_data, store):
    from bench.tokens.patch_storage import teacher_tokens
    from pipeline.params.tokens import TokensParams
    from pipeline.params.whole import WholeParams

    weights = str(real_data / "teachers" / "tf_efficientnet_lite2.safetensors")
    params = WholeParams(tokens=TokensParams(teacher="tf_efficientnet_lite2", weights=weights))
    patch_NTD = teacher_tokens(params, store, real_data / "crc_tiles" / "test", 24)
    rows = {row["scheme"]: row for row in losses(split_halves(patch_NTD, "test"))}
    assert rows[DEFAULT]["relative_l2"] <= 0.01 and rows[DEFAULT]["one_minus_cosine"] <= 1e-4
