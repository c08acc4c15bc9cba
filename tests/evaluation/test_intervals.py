"""Bootstrap: the unit that is drawn, pairing, and coverage of a known spread."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.intervals import MIN_SLIDES, Resampler, interval


@pytest.mark.parametrize(("many", "by"), [(1, "tile"), (MIN_SLIDES - 1, "tile"), (MIN_SLIDES, "slide")])
def test_slides_are_drawn_where_there_are_enough(many: int, by: str):
    assert Resampler([f"s{i % many}" for i in range(50)], 100, 0).by == by


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
    low, high = Resampler(["a"] * 400, 2000, 0).mean_interval(value_N)
    assert high - low == pytest.approx(2 * 1.96 * value_N.std() / 20, rel=0.1)
    assert low < value_N.mean() < high


def test_interval_takes_the_middle_95_percent():
    assert interval(np.arange(1001) / 1000) == pytest.approx([0.025, 0.975])
