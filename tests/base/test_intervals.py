"""Intervals: the unit that is drawn, pairing, and known deviations; tests/base/test_coverage.py has their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, t

from pipeline.base.figures import Interval, NotMeasured, Unit
from pipeline.base.intervals import Jackknife, Resampler, Units, freedom, interval


def units(n: int, each: int = 1, unit: Unit = "slide") -> Units:
    """n units of so many tiles each."""
    return Units([f"s{i // each:04}" for i in range(n * each)], unit)


def half(found: Interval | NotMeasured) -> float:
    assert isinstance(found, Interval)
    return (found.high - found.low) / 2


def test_the_deviation_of_a_percentile_is_that_of_whole_slides_written_out():
    """Tiles of a slide are alike, and slides are not: drawn by tile the interval would be far too narrow."""
    random = np.random.default_rng(0)
    slide = random.integers(8, size=240)
    value_N = random.normal(size=8)[slide] + 0.05 * random.normal(size=240)
    resampler = Resampler(Units([f"s{i}" for i in slide], "slide"), 300, 0)
    tile_M = np.repeat(np.arange(240), 3)
    value_M = value_N[tile_M] + 0.01 * random.normal(size=720)
    found = resampler.percentile_interval(value_M, tile_M, 5)
    drawn = [np.repeat(value_M, count_G.astype(int)[slide[tile_M]]) for count_G in resampler.count_BG]
    deviation = np.std([np.percentile(x, 5) for x in drawn]) * 8 / 7
    assert half(found) == pytest.approx(t.ppf(0.975, resampler.freedom) * deviation, rel=1e-4)
    assert 6 < resampler.freedom < 7, "the slides have nearly as many tiles each"
    assert (found.unit, found.units, found.method) == ("slide", 8, "bootstrap")
    by_tile = Resampler(units(240, unit="image"), 300, 0).percentile_interval(value_M, tile_M, 5)
    assert half(found) > 2 * half(by_tile)


def test_every_resample_of_slides_is_made_of_whole_slides():
    slides = Units([f"s{i % 9}" for i in range(90)], "slide")
    count_BK = Resampler(slides, 200, 0).sums(np.eye(9)[[i % 9 for i in range(90)]])
    assert (count_BK % 10 == 0).all() and (count_BK.sum(axis=1) == 90).all()


def test_of_few_units_each_is_left_out_once():
    count_BK = Resampler(units(5, each=4), 1000, 0).sums(np.repeat(np.eye(5), 4, axis=0))
    assert (count_BK == 4 * (1 - np.eye(5))).all()


def test_draws_repeat_so_that_comparisons_are_paired():
    resampler = Resampler(units(30), 100, 3)
    value_N1 = np.random.default_rng(0).normal(size=(30, 1))
    assert (resampler.sums(value_N1) == resampler.sums(value_N1)).all()


def test_the_interval_of_a_mean_is_that_of_theory():
    value_N = np.random.default_rng(0).normal(size=400)
    found = Resampler(units(400), 2000, 0).mean_interval(value_N)
    assert half(found) == pytest.approx(t.ppf(0.975, 399) * value_N.std() / 20, rel=0.1)
    assert found.low < value_N.mean() < found.high


def test_interval_takes_the_middle_95_percent():
    assert interval(np.arange(1001) / 1000) == pytest.approx([0.025, 0.975])


def test_the_deviation_of_a_percentile_is_scipys():
    value_N = np.random.default_rng(0).normal(size=500)
    found = Resampler(units(500), 2000, 0).percentile_interval(value_N, np.arange(500), 5)
    theirs = bootstrap((value_N,), lambda x, axis: np.percentile(x, 5, axis=axis), n_resamples=2000, rng=1)
    assert half(found) == pytest.approx(1.96 * float(theirs.standard_error), rel=0.15)
    assert found.low < np.percentile(value_N, 5) < found.high


def test_the_jackknife_of_a_mean_is_that_of_theory():
    value_N = np.random.default_rng(0).normal(size=20)
    without = [float(np.delete(value_N, i).mean()) for i in range(20)]
    found = Jackknife(units(20, unit="image")).interval(float(value_N.mean()), without)
    deviation = value_N.std(ddof=1) / np.sqrt(20) * np.sqrt(20 / 19)
    assert half(found) == pytest.approx(t.ppf(0.975, 19) * deviation, rel=1e-4)
    assert (found.unit, found.units, found.method) == ("image", 20, "jackknife")


def test_an_interval_ends_where_the_figure_cannot_go():
    found = Jackknife(units(9)).interval(0.9, [0.5, 0.9, 1.0] * 3, 0.0, 1.0)
    assert 0 <= found.low < 0.9 and found.high == 1.0


def test_blocks_are_whole_slides():
    of_slides = Jackknife(Units([f"s{i % 40:02d}" for i in range(400)], "slide"))
    assert of_slides.blocks == 20 and set(of_slides.block_N) == set(range(20))
    assert all(len({of_slides.block_N[i] for i in range(n, 400, 40)}) == 1 for n in range(40))
    assert Jackknife(units(3)).block_N.tolist() == [0, 1, 2]


def test_degrees_of_freedom_are_of_the_units_that_a_figure_weighs():
    alike, classes = np.arange(20), np.eye(2)
    assert freedom(np.repeat(alike, 7), np.ones((140, 1))) == pytest.approx(19)
    # Shares of 1/2 and twenty of 1/40.
    assert freedom(np.append(alike, [20] * 20), np.ones((40, 1))) == pytest.approx(1 / (1 / 4 + 20 / 1600) - 1)
    # Two classes of ten units each: by Satterthwaite 2 * 9, and no more than there are.
    assert freedom(alike, classes[alike % 2]) == pytest.approx(18)
    assert freedom(np.repeat(alike, 2), classes[[0, 1] * 20]) == pytest.approx(19)
    # One class of three units, one of seventeen.
    of_two = (1 / 3 + 1 / 17) ** 2 / (1 / (9 * 2) + 1 / (17**2 * 16))
    assert freedom(alike, classes[(alike < 3).astype(int)]) == pytest.approx(of_two)
    assert freedom(alike, classes[(alike < 1).astype(int)]) == 0
    assert freedom(alike, np.eye(3)[alike % 2]) == pytest.approx(18), "a class that none has counts for nothing"
