"""What OpenCV and NumPy do here in SciPy's place, since its import is most of a short start, is SciPy's to the bit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.tiles.tissue.coverage import between
from pipeline.tiles.tissue.web import density


@given(height=st.integers(1, 60), width=st.integers(1, 60), seed=st.integers(0, 99))
def test_a_picture_between_its_pixels(height: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    picture_HW = random.random((height, width)).cumsum(0).cumsum(1)
    y_N, x_N = random.uniform(-1, height + 1, 40), random.uniform(-1, width + 1, 40)
    y_N[:10], x_N[5:15] = np.round(y_N[:10]), np.round(x_N[5:15])
    scipys_N = ndimage.map_coordinates(picture_HW, [y_N, x_N], order=1, mode="nearest")
    assert np.array_equal(between(picture_HW, x_N, y_N), scipys_N)


@given(height=st.integers(1, 60), width=st.integers(1, 60), side=st.integers(1, 20), seed=st.integers(0, 99))
def test_the_share_of_a_mask_around_each_pixel(height: int, width: int, side: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    mask_HW = random.random((height, width)) < random.random()
    scipys_HW = ndimage.uniform_filter(mask_HW.astype(np.float32), side)
    assert np.array_equal(density(mask_HW, side), scipys_HW)


def test_embedding_slides_starts_without_scipy() -> None:
    code = "import sys, pipeline.embed.slides; sys.exit(any(name.startswith('scipy.ndimage') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
