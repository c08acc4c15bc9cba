"""The speed-up's interval: known answers, what a busy machine does to it, and how often it holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.base.figures import Figure
from pipeline.benchmark.speedup import MIN_ROUNDS, best_batch, speedup


def rounds(passes: np.ndarray) -> list[list[float]]:
    return [list(map(float, turn)) for turn in passes]


def ends(found: Figure) -> tuple[float, float]:
    return found.span.low, found.span.high


def test_a_model_is_just_as_fast_as_itself_however_busy_the_machine() -> None:
    own = {8: rounds(np.random.default_rng(0).uniform(0.1, 0.9, (10, 7)))}
    found = speedup(own, own)
    assert (found.value, found.span.low, found.span.high, found.span.units) == (1, 1, 1, 10)


def test_the_value_is_the_ratio_of_the_best_throughputs_at_the_median() -> None:
    teacher = {1: rounds(np.full((10, 3), 0.1)), 8: rounds(np.full((10, 3), 0.4))}
    student = {1: rounds(np.full((10, 3), 0.01)), 8: rounds(np.full((10, 3), 0.2))}
    assert (best_batch(teacher), best_batch(student)) == (8, 1)
    found = speedup(teacher, student)
    assert (found.value, *ends(found)) == pytest.approx((5, 5, 5))


def test_what_slows_both_in_the_same_rounds_leaves_the_ratio_alone() -> None:
    busy = np.repeat([[1.0], [2.0]], 5, axis=0) * np.ones((1, 4))
    low, high = ends(speedup({8: rounds(0.4 * busy)}, {8: rounds(0.1 * busy)}))
    assert (low, high) == pytest.approx((4, 4))
    # At different batch sizes they had their turns at different times, and the same slowness says nothing of the ratio.
    low, high = ends(speedup({8: rounds(0.4 * busy)}, {32: rounds(0.4 * busy)}))
    assert low < 2.1 and high > 7.9


def test_too_few_rounds_have_no_interval() -> None:
    few = {1: rounds(np.full((MIN_ROUNDS - 1, 5), 0.1))}
    found = speedup(few, few)
    assert found.value == 1 and found.span is None and "4 rounds" in found.interval.why


def test_rounds_that_one_model_had_alone_count() -> None:
    teacher, student = {4: rounds(np.full((12, 1), 0.2))}, {4: rounds(np.full((6, 5), 0.1))}
    teacher[4][11] = [0.9]
    found = speedup(teacher, student)
    assert found.value == pytest.approx(2) and ends(found)[0] == pytest.approx(2)


def test_the_interval_holds_the_truth_most_of_the_time() -> None:
    random, held = np.random.default_rng(1), 0
    for _ in range(12):
        load = random.lognormal(0, 0.2, (10, 1))
        own = [random.lognormal(0, 0.1, (10, 1)) * random.lognormal(0, 0.02, (10, 4)) for _ in range(2)]
        low, high = ends(speedup({8: rounds(0.4 * load * own[0])}, {8: rounds(0.1 * load * own[1])}))
        held += low <= 4 <= high
    assert held >= 9
