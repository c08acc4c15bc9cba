"""The speed-up's interval: known answers, what a busy machine does to it, and how often it holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.base.figures import Figure, NotMeasured
from pipeline.base.intervals import MIN_UNITS
from pipeline.benchmark.speedup import best_batch, speedup
from pipeline.benchmark.turns import ROUNDS


def rounds(passes: np.ndarray) -> list[list[float]]:
    return [list(map(float, turn)) for turn in passes]


def ends(found: Figure) -> tuple[float, float]:
    return found.span.low, found.span.high


def test_a_model_is_just_as_fast_as_itself_however_busy_the_machine() -> None:
    own = {8: rounds(np.random.default_rng(0).uniform(0.1, 0.9, (ROUNDS, 7)))}
    found = speedup(own, own)
    assert (found.value, *ends(found), found.span.units, found.span.unit) == (1, 1, 1, ROUNDS, "round")


def test_the_value_is_the_ratio_of_the_best_throughputs_at_the_median() -> None:
    teacher = {1: rounds(np.full((ROUNDS, 3), 0.1)), 8: rounds(np.full((ROUNDS, 3), 0.4))}
    student = {1: rounds(np.full((ROUNDS, 3), 0.01)), 8: rounds(np.full((ROUNDS, 3), 0.2))}
    assert (best_batch(teacher), best_batch(student)) == (8, 1)
    found = speedup(teacher, student)
    assert (found.value, *ends(found)) == pytest.approx((5, 5, 5), rel=1e-5)


def test_what_slows_both_in_the_same_rounds_leaves_the_ratio_alone() -> None:
    busy = np.repeat([[1.0], [2.0]], ROUNDS // 2, axis=0) * np.ones((1, 4))
    for batch in (8, 32):
        found = speedup({8: rounds(0.4 * busy)}, {batch: rounds(0.1 * batch / 8 * busy)})
        assert (found.value, *ends(found)) == pytest.approx((4, 4, 4), rel=1e-5)


def test_too_few_rounds_have_no_interval() -> None:
    for n in (1, MIN_UNITS - 1):
        few = {1: rounds(np.full((n, 5), 0.1))}
        found = speedup(few, few)
        assert found.value == 1 and isinstance(found.interval, NotMeasured) and "round" in found.interval.why


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Rounds of 5 % spread each, machine's load between rounds far more: nominal 95 %, within 93 to 97."""
    random, held, times = np.random.default_rng(1), 0, 1500
    for _ in range(times):
        load = random.lognormal(0, 0.3, (ROUNDS, 1))
        own = [random.lognormal(0, 0.05, (ROUNDS, 1)) * random.lognormal(0, 0.02, (ROUNDS, 4)) for _ in range(2)]
        low, high = ends(speedup({8: rounds(0.4 * load * own[0])}, {8: rounds(0.1 * load * own[1])}))
        held += low <= 4 <= high
    assert 0.93 <= held / times <= 0.97
