"""Bootstrap: the unit that is drawn, pairing, and coverage of a known spread."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from pipeline.base.figures import Interval
from pipeline.base.intervals import MIN_SLIDES, Jackknife, Resampler, interval, redrawn


def ends(found: Interval) -> list[float]:
    return [found.low, found.high]


def test_the_interval_of_a_percentile_over_slides_is_that_of_whole_slides_written_out():
    """Tiles of a slide are alike, and slides are not: drawn by tile the interval would be far too narrow."""
    random = np.random.default_rng(0)
    slide = random.integers(8, size=240)
    value_N = random.normal(size=8)[slide] + 0.05 * random.normal(size=240)
    resampler, tile_M = Resampler([f"s{i}" for i in slide], 300, 0), np.repeat(np.arange(240), 3)
    value_M = value_N[tile_M] + 0.01 * random.normal(size=720)
    found = resampler.percentile_interval(value_M, tile_M, 5)
    drawn = [np.repeat(value_M, count_G.astype(int)[slide[tile_M]]) for count_G in resampler.count_BG]
    assert ends(found) == pytest.approx(interval(np.array([np.percentile(x, 5) for x in drawn])), rel=1e-5)
    assert (found.unit, found.units, found.method) == ("slide", 8, "bootstrap")
    by_tile = Resampler(["s"] * 240, 300, 0).percentile_interval(value_M, tile_M, 5)
    assert found.high - found.low > 2 * (by_tile.high - by_tile.low)


@pytest.mark.parametrize(("many", "by"), [(1, "tile"), (MIN_SLIDES - 1, "tile"), (MIN_SLIDES, "slide")])
def test_slides_are_drawn_where_there_are_enough(many: int, by: str):
    assert Resampler([f"s{i % many}" for i in range(50)], 100, 0).unit == by


def test_every_resample_of_slides_is_made_of_whole_slides():
    slide_N = [f"s{i % 6}" for i in range(60)]
    count_BK = Resampler(slide_N, 200, 0).sums(np.eye(6)[[i % 6 for i in range(60)]])
    assert (count_BK % 10 == 0).all() and (count_BK.sum(axis=1) == 60).all()


def test_draws_repeat_so_that_comparisons_are_paired():
    resampler = Resampler(["a"] * 30, 100, 3)
    value_N1 = np.random.default_rng(0).normal(size=(30, 1))
    assert (resampler.sums(value_N1) == resampler.sums(value_N1)).all()


def test_the_interval_of_a_mean_is_that_of_theory():
    value_N = np.random.default_rng(0).normal(size=400)
    low, high = ends(Resampler(["a"] * 400, 2000, 0).mean_interval(value_N))
    assert high - low == pytest.approx(2 * 1.96 * value_N.std() / 20, rel=0.1)
    assert low < value_N.mean() < high


def test_interval_takes_the_middle_95_percent():
    assert interval(np.arange(1001) / 1000) == pytest.approx([0.025, 0.975])


def test_the_interval_of_a_percentile_is_scipys():
    value_N = np.random.default_rng(0).normal(size=500)
    found = Resampler(["a"] * 500, 2000, 0).percentile_interval(value_N, np.arange(500), 5)
    theirs = bootstrap(
        (value_N,), lambda x, axis: np.percentile(x, 5, axis=axis), n_resamples=2000, method="percentile", rng=1
    )
    assert ends(found) == pytest.approx(list(theirs.confidence_interval), abs=0.1)
    assert found.low < np.percentile(value_N, 5) < found.high


def test_the_jackknife_of_a_mean_is_that_of_theory():
    value_N = np.random.default_rng(0).normal(size=20)
    without = [float(np.delete(value_N, i).mean()) for i in range(20)]
    found = Jackknife(["a"] * 20).interval(float(value_N.mean()), without)
    assert found.high - found.low == pytest.approx(2 * 1.96 * value_N.std(ddof=1) / np.sqrt(20), rel=1e-4)
    assert (found.unit, found.units, found.method) == ("tile", 20, "jackknife")


def test_an_interval_ends_where_the_figure_cannot_go():
    found = Jackknife(["a"] * 3).interval(0.9, [0.5, 0.9, 1.0], 0.0, 1.0)
    assert 0 <= found.low < 0.9 and found.high == 1.0


def test_blocks_are_whole_slides_or_neighbouring_tiles():
    of_slides = Jackknife([f"s{i % 40:02d}" for i in range(400)])
    assert of_slides.blocks == 20 and set(of_slides.block_N) == set(range(20))
    assert all(len({of_slides.block_N[i] for i in range(n, 400, 40)}) == 1 for n in range(40))
    of_tiles = Jackknife(["a"] * 100).block_N
    assert (np.diff(of_tiles) >= 0).all() and set(np.bincount(of_tiles)) == {5}
    assert Jackknife(["a"] * 3).block_N.tolist() == [0, 1, 2]


def test_rounds_that_series_share_are_drawn_as_one_and_the_rest_of_the_longer_from_itself():
    for short, long in redrawn((4, 7), 4, 50, 0):
        assert (short == long[:4]).all() and short.max() < 4 and len(long) == 7
        assert ((long[4:] >= 4) & (long[4:] < 7)).all()
    apart = list(redrawn((5, 5), 0, 50, 0))
    assert any((one != other).any() for one, other in apart)
