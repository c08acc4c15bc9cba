"""The grid: inside the slide, complete, and the same however it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.base.errors import SlideRefused
from pipeline.params.tiles import TilesParams
from pipeline.tiles.grid import geometry_of, lay, spread_choice, starts

REGION_40X = [(10240 >> i, 10240 >> i, float(1 << i)) for i in range(7)]
lengths = st.integers(1, 5000)
sizes = st.floats(8, 700)
steps = st.floats(0.3, 1.0)
pixels = st.one_of(st.sampled_from([1.0, 2.0, 4.0, 2.0005, 4.0012]), st.floats(1.0, 8.0))


def test_the_worked_example_of_the_docstring() -> None:
    geometry = geometry_of(REGION_40X, (0.293, 0.293), TilesParams(tile_px=256))
    assert geometry.level == 0
    assert geometry.scale[0] == pytest.approx(1.7065, abs=1e-4)
    assert geometry.size_l0[0] == pytest.approx(436.86, abs=5e-3)
    grid = lay(geometry, "skip")
    assert grid.x_l0[:5].tolist() == [0, 437, 874, 1311, 1747]
    assert len(grid.x_l0) == 23 and grid.x_l0[-1] + 437 == 10048
    assert grid.lost == 24 * 24 - 23 * 23
    assert lay(geometry, "shift").x_l0[-1] == 9803
    assert lay(geometry, "shift").lost == 0


@given(length=lengths, size=sizes, step=steps, edge=st.sampled_from(["skip", "shift"]), pixel=pixels)
@example(length=782, size=31.8466 / 2.0005, step=0.5, edge="shift", pixel=2.0005)
def test_every_tile_is_inside_the_slide_and_of_other_pixels(
    length: int, size: float, step: float, edge: str, pixel: float
) -> None:
    size_l0 = size * pixel
    at, _ = starts(length, size_l0, size_l0 * step, edge, pixel)
    assert (at >= 0).all() and (at + size_l0 <= length + 1e-5).all()
    assert (np.diff(at) > 0).all() and (np.diff(np.floor(at / pixel + 0.5)) > 0).all()


@given(length=lengths, size=sizes, step=steps)
def test_skip_loses_no_whole_tile(length: int, size: float, step: float) -> None:
    at, covering = starts(length, size, size * step, "skip")
    step_l0 = size * step
    following = np.floor(len(at) * step_l0 + 0.5)
    assert following + size > length
    assert at.tolist() == [int(np.floor(i * step_l0 + 0.5)) for i in range(len(at))]
    assert covering - len(at) == (not len(at) or at[-1] + size <= length - 1)


@given(length=lengths, size=sizes, step=steps, pixel=pixels)
@example(length=237, size=9.0, step=0.78125, pixel=1.9375)
def test_shift_covers_the_whole_slide_to_within_a_pixel(length: int, size: float, step: float, pixel: float) -> None:
    size_l0 = size * pixel
    at, covering = starts(length, size_l0, size_l0 * step, "shift", pixel)
    if size_l0 > length:
        assert not len(at) and covering == 1
        return
    slack = pixel if pixel == round(pixel) else 2 * pixel + 0.5
    assert at[0] == 0 and at[-1] + size_l0 > length - slack and covering == len(at)
    # Whole pixels of the level apart; where those are no whole number of level 0's, both ends are rounded once more.
    assert (np.diff(at) <= np.ceil(size * step) * pixel + (pixel != round(pixel))).all()


@given(length=lengths, more=st.integers(0, 500), size=sizes, step=steps)
def test_a_longer_slide_keeps_the_coordinates_of_a_shorter_one(
    length: int, more: int, size: float, step: float
) -> None:
    short, _ = starts(length, size, size * step, "skip")
    long, _ = starts(length + more, size, size * step, "skip")
    np.testing.assert_array_equal(long[: len(short)], short)


@given(
    mpp=st.tuples(st.floats(0.06, 1.0), st.floats(0.06, 1.0)),
    target=st.floats(0.1, 1.5),
    downsamples=st.lists(st.floats(1.1, 5.0), max_size=5),
)
@example(mpp=(1.0, 0.9921875), target=1.0, downsamples=[])
def test_the_level_read_is_the_nearest_that_is_fine_enough(
    mpp: tuple[float, float], target: float, downsamples: list[float]
) -> None:
    all_downsamples = np.cumprod([1.0, *downsamples])
    levels = [(int(9000 / d), int(7000 / d), float(d)) for d in all_downsamples]
    params = TilesParams(target_mpp=target)
    if max(mpp) > target * 1.05:
        with pytest.raises(SlideRefused, match="coarser than the target"):
            geometry_of(levels, mpp, params)
        return
    geometry = geometry_of(levels, mpp, params)
    fine_enough = [d for d in all_downsamples if max(mpp) * d <= target * 1.01]
    assert geometry.downsample == max(fine_enough, default=1.0)
    scales = [target / mpp[0], target / mpp[1]]
    if all(1 / 1.01 <= scale / geometry.downsample <= 1.01 for scale in scales):
        # Kept as scanned.
        scales = [geometry.downsample] * 2
    assert geometry.size_l0 == pytest.approx([224 * scale for scale in scales])


def test_a_level_a_hair_coarser_counts_as_equal() -> None:
    levels = [(4443, 3567, 1.0), (2221, 1783, 2.0005)]
    assert geometry_of(levels, (0.25, 0.25), TilesParams()).level == 1
    assert geometry_of(levels, (0.26, 0.26), TilesParams()).level == 0


@given(n=st.integers(0, 500), limit=st.integers(1, 200), seed=st.integers(0, 99))
def test_a_limited_choice_takes_one_row_from_each_stretch(n: int, limit: int, seed: int) -> None:
    chosen = spread_choice(n, limit, seed)
    assert len(chosen) == min(n, limit) and (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, spread_choice(n, limit, seed))
    if n > limit:
        np.testing.assert_array_equal(
            np.searchsorted(np.arange(limit + 1) * n // limit, chosen, "right") - 1, range(limit)
        )


def test_without_a_limit_all_are_chosen() -> None:
    np.testing.assert_array_equal(spread_choice(7, None, 3), range(7))
