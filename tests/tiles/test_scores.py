"""Scores: focus is told whatever the stain, and stain whatever the glass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.slides import tissue_picture
from PIL import Image, ImageFilter

from pipeline.tiles.pixels import encode_jpeg
from pipeline.tiles.scores import jpeg_sharpness, sharpness
from pipeline.tiles.stains import stains

TISSUE = tissue_picture(640, 480, 3)[180:308, 256:384]


def blurred(sigma: float) -> np.ndarray:
    return np.asarray(Image.fromarray(TISSUE).filter(ImageFilter.GaussianBlur(sigma)))


def test_white_noise_has_the_score_that_the_mathematics_says() -> None:
    noise = np.random.default_rng(0).normal(128, 30, (600, 600)).clip(0, 255).astype(np.uint8)
    assert sharpness(noise) == pytest.approx(5, rel=0.05)


def test_each_blur_scores_less_than_the_one_before() -> None:
    scores = [sharpness(blurred(sigma)) for sigma in (0, 1, 2, 3, 5)]
    assert scores == sorted(scores, reverse=True) and scores[0] > 1.5 and scores[3] < 0.7


@given(contrast=st.floats(0.3, 1.0))
def test_contrast_is_not_focus(contrast: float) -> None:
    pale = (128 + contrast * (TISSUE.astype(float) - 128)).astype(np.uint8)
    assert sharpness(pale) == pytest.approx(sharpness(TISSUE), rel=0.15)


def test_a_blank_tile_has_no_focus() -> None:
    assert sharpness(np.full((64, 64, 3), 243, np.uint8)) == 0


def test_a_jpeg_scores_as_its_pixels_do() -> None:
    for sigma in (0, 2):
        tile = blurred(sigma)
        assert jpeg_sharpness(encode_jpeg(tile, 95)) == pytest.approx(sharpness(tile), rel=0.1, abs=0.1)
    with pytest.raises(ValueError, match=r".*"):
        jpeg_sharpness(b"no jpeg")


@pytest.mark.parametrize("glass", [255, 243, 210])
def test_stains_are_told_apart_and_glass_has_none(glass: int) -> None:
    light = np.full(3, glass, float)
    picture = np.full((30, 90, 3), glass, np.uint8)
    picture[:, 30:60] = light * 10 ** -(0.4 * np.array([0.65, 0.70, 0.29]))
    picture[:, 60:] = light * 10 ** -(0.3 * np.array([0.07, 0.99, 0.11]))
    where = np.zeros((30, 90), bool)
    where[:, :30] = True
    found = stains(picture, where)
    assert found[:, :30].max() < 0.02
    np.testing.assert_allclose(found[5, 45], [0.4, 0], atol=0.02)
    np.testing.assert_allclose(found[5, 75], [0, 0.3], atol=0.02)
