"""Shrinking: near the filter that teachers are fed with, free of alias, and blind to what lies beside the tile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.slides import tissue_picture
from PIL import Image

from pipeline.tiles.resample import shrink

PICTURE = tissue_picture(640, 640)


def bicubic(rgb_HWC: np.ndarray, size: tuple[float, float], side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb_HWC).resize((side, side), Image.Resampling.BICUBIC, box=(0, 0, *size)))


@given(scale=st.tuples(st.floats(1.02, 4), st.floats(1.02, 4)), side=st.integers(16, 150))
def test_it_is_about_as_pillow_does_it_and_not_shifted(scale: tuple[float, float], side: int) -> None:
    size = scale[0] * side, scale[1] * side
    cut = PICTURE[: int(np.ceil(size[1])), : int(np.ceil(size[0]))]
    ours, pillows = shrink(cut, size, side).astype(float), bicubic(cut, size, side).astype(float)
    assert ours.shape == (side, side, 3)
    assert np.abs(ours - pillows).mean() < 3.5
    assert abs((ours - pillows).mean()) < 0.5


def test_what_smaller_tiles_cannot_show_becomes_grey_and_not_a_pattern() -> None:
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    for scale in (1.7, 2.0, 2.3, 3.9):
        inner = shrink(stripes, (100 * scale, 100 * scale), 100)[5:-5, 5:-5]
        assert inner.std() < 12 and abs(inner.mean() - 127.5) < 12


@given(x=st.integers(0, 300), y=st.integers(0, 300), scale=st.floats(1, 3))
def test_a_tile_does_not_depend_on_what_it_was_cut_from(x: int, y: int, scale: float) -> None:
    whole = int(np.ceil(64 * scale))
    view = PICTURE[y : y + whole, x : x + whole]
    np.testing.assert_array_equal(shrink(view, (64 * scale,) * 2, 64), shrink(view.copy(), (64 * scale,) * 2, 64))


def test_the_same_size_is_the_same_pixels() -> None:
    np.testing.assert_array_equal(shrink(PICTURE[:64, :64], (64.0, 64.0), 64), PICTURE[:64, :64])


@pytest.mark.parametrize("size", [(62.4, 64.0), (64.0, 62.4), (61.0, 61.0)])
def test_a_slide_a_little_coarser_is_interpolated(size: tuple[float, float]) -> None:
    cut = PICTURE[200 : 200 + int(np.ceil(size[1])), 200 : 200 + int(np.ceil(size[0]))]
    assert np.abs(shrink(cut, size, 64).astype(float) - bicubic(cut, size, 64)).mean() < 4
