"""Half the side is what Pillow's bicubic makes of it, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.slides import tissue_picture
from PIL import Image

from pipeline.tiles import resample
from pipeline.tiles.pixels import fit_square
from pipeline.tiles.resample import LEAST_PX, halve


def by_pillow(rgb_HWC: np.ndarray) -> np.ndarray:
    side_px = len(rgb_HWC) // 2
    return np.asarray(Image.fromarray(rgb_HWC).resize((side_px, side_px), Image.Resampling.BICUBIC))


@given(n=st.integers(1, 3), half=st.integers(LEAST_PX // 2, 80), seed=st.integers(0, 99), extreme=st.booleans())
def test_half_the_side_is_pillows(n: int, half: int, seed: int, extreme: bool) -> None:
    noise_NHWC = np.random.default_rng(seed).integers(0, 256, (n, 2 * half, 2 * half, 3), np.uint8)
    # Black beside white overshoots most, and comes to ties of the rounding.
    image_NHWC = (noise_NHWC // 128 * 255).astype(np.uint8) if extreme else noise_NHWC
    assert np.array_equal(halve(image_NHWC), [by_pillow(image_HWC) for image_HWC in image_NHWC])


def test_it_is_opencv_that_makes_it_here() -> None:
    assert resample._agrees()


@pytest.mark.parametrize("size", [(224, 224), (300, 224), (224, 391)])
def test_an_image_is_fitted_by_it_whatever_it_was_cut_from(size: tuple[int, int]) -> None:
    image_HWC = tissue_picture(*size)
    top, left = (size[1] - 224) // 2, (size[0] - 224) // 2
    middle_HWC = image_HWC[top : top + 224, left : left + 224]
    assert np.array_equal(fit_square(image_HWC, 112), by_pillow(np.ascontiguousarray(middle_HWC)))
