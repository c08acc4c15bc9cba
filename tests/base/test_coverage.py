"""A 95 % interval holds the truth about 95 times of 100, with few units as with many.

Simulated as cohorts are: patients that differ, slides that differ within a patient, tiles that differ within a slide,
as many tiles as a slide happens to have. Both sides are bounded: too narrow and too wide are wrong alike. Below
`MIN_UNITS` nothing is stated. Deterministic by seed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from pipeline.base.figures import Interval, NotMeasured
from pipeline.base.intervals import MIN_UNITS, Jackknife, Resampler, Units
from pipeline.measures.probes.scoring import Scorer

RUNS, RESAMPLES = 1000, 200
TRUTH = 0.8
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, list[str]]]
Kind = Callable[[np.ndarray, Units], Interval | NotMeasured]


def cohort(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, list[str]]:
    """A figure of each tile (as a cosine is), and its patient; 1 to 4 slides a patient, 5 to 40 tiles a slide."""
    values, names = [], []
    for patient in range(patients):
        of_patient = rng.normal(0, 0.08)
        for _ in range(rng.integers(1, 5)):
            n = int(rng.integers(5, 41))
            values.append(TRUTH + of_patient + rng.normal(0, 0.04) + rng.normal(0, 0.1, n))
            names += [f"p{patient:03}"] * n
    return np.concatenate(values), names


def right_or_wrong(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, list[str]]:
    """1 where a classifier is right about a tile, whose difficulty is the patient's."""
    values, names = [], []
    for patient in range(patients):
        n, chance = 30, rng.beta(8, 2)
        values.append((rng.random(n) < chance).astype(float))
        names += [f"p{patient:03}"] * n
    return np.concatenate(values), names


@cache
def cohorts(draw: Draw, patients: int) -> list[tuple[np.ndarray, Units]]:
    """What is drawn in every run, once for all kinds of interval."""
    drawn = [draw(np.random.default_rng([patients, run]), patients) for run in range(RUNS)]
    return [(value_N, Units(names, "patient")) for value_N, names in drawn]


def covered(draw: Draw, patients: int, interval: Kind) -> float:
    """Of the intervals that are stated, which nearly all cohorts have."""
    held, stated = 0, 0
    for value_N, units in cohorts(draw, patients):
        found = interval(value_N, units)
        if isinstance(found, Interval):
            assert found.unit == "patient" and found.units == patients
            held, stated = held + (found.low <= TRUTH <= found.high), stated + 1
    assert stated > 0.9 * RUNS
    return held / stated


def by_bootstrap(value_N: np.ndarray, units: Units) -> Interval | NotMeasured:
    return Resampler(units, RESAMPLES, 0).mean_interval(value_N)


def by_jackknife(value_N: np.ndarray, units: Units) -> Interval | NotMeasured:
    left_out = Jackknife(units)
    without = [value_N[left_out.block_N != k].mean() for k in range(left_out.blocks) if left_out.blocks > 1]
    return left_out.interval(float(value_N.mean()), without)


@pytest.mark.parametrize("patients", [8, 12, 40])
@pytest.mark.parametrize("draw", [cohort, right_or_wrong])
@pytest.mark.parametrize("interval", [by_bootstrap, by_jackknife])
def test_a_nominal_95_percent_covers_95_percent(draw: Draw, patients: int, interval: Kind) -> None:
    assert 0.93 <= covered(draw, patients, interval) <= 0.97


def test_a_share_kept_covers_too() -> None:
    """Student over teacher, both by the same draws of patients."""
    held = 0
    for run in range(RUNS):
        rng = np.random.default_rng([7, run])
        names = [f"p{p:02}" for p in range(12) for _ in range(30)]
        hard_N = np.repeat(rng.normal(0, 0.08, 12), 30)
        teacher_N, student_N = (mean + hard_N + rng.normal(0, 0.1, 360) for mean in (0.8, 0.6))
        resampler = Resampler(Units(names, "patient"), RESAMPLES, 0)
        kept_B = resampler.means(student_N) / resampler.means(teacher_N)
        found = resampler.interval(float(student_N.mean() / teacher_N.mean()), kept_B)
        assert isinstance(found, Interval)
        held += found.low <= 0.75 <= found.high
    assert 0.93 <= held / RUNS <= 0.97


def test_slides_of_the_same_patient_are_not_drawn_apart() -> None:
    """What the patient has in common, slides drawn one by one miss: 12 patients of 4 slides."""
    missed = 0
    for run in range(300):
        rng = np.random.default_rng([3, run])
        value_N = TRUTH + np.repeat(rng.normal(0, 0.1, 12), 40) + rng.normal(0, 0.05, 480)
        of_slides = Resampler(Units([f"s{i // 10:02}" for i in range(480)], "slide"), RESAMPLES, 0)
        found = of_slides.mean_interval(value_N)
        assert isinstance(found, Interval)
        missed += not found.low <= TRUTH <= found.high
    assert missed / 300 > 0.2


def unequal(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, list[str]]:
    """Patients of very unequal size: half of the tiles are of about a sixth of them."""
    values, names = [], []
    for patient, n in enumerate(np.maximum(2, rng.lognormal(3, 1, patients)).astype(int)):
        values.append(TRUTH + rng.normal(0, 0.08) + rng.normal(0, 0.1, n))
        names += [f"p{patient:03}"] * n
    return np.concatenate(values), names


@pytest.mark.parametrize("interval", [by_bootstrap, by_jackknife])
def test_it_covers_with_patients_of_very_unequal_size(interval: Kind) -> None:
    """By 11 degrees of freedom 90 to 92 % were covered."""
    held = []
    for run in range(400):
        value_N, names = unequal(np.random.default_rng([12, run]), 12)
        found = interval(value_N, Units(names, "patient"))
        held += [found.low <= TRUTH <= found.high] if isinstance(found, Interval) else []
    assert 0.93 <= np.mean(held) <= 0.975 and len(held) > 200


def test_where_one_patient_has_most_tiles_no_interval_is_stated() -> None:
    """Of 20 patients one with nine tenths: a nominal 95 % by 19 degrees of freedom covers 80 %."""
    names = ["p00"] * 3420 + [f"p{i:02}" for i in range(1, 20) for _ in range(20)]
    value_N = np.random.default_rng(0).normal(size=len(names))
    for found in (by_bootstrap(value_N, Units(names, "patient")), by_jackknife(value_N, Units(names, "patient"))):
        assert isinstance(found, NotMeasured)
        assert found.why.startswith("its 20 patients count as 1.2 in it, fewer than the 5 needed")
        assert "without one of them it is" in found.why


def balanced(patients: int, with_third: int, run: int) -> Interval | NotMeasured:
    """Balanced accuracy of three classes, the third of which some patients alone have."""
    rng = np.random.default_rng([patients, with_third, run])
    labels, names, right = [], [], []
    for patient in range(patients):
        hard = rng.normal(0, 0.1)
        for name in ("a", "b", "c")[: 3 if patient < with_third else 2]:
            labels += [name] * 12
            names += [f"p{patient:02}"] * 12
            right.append(rng.random(12) < np.clip(TRUTH + hard + rng.normal(0, 0.06), 0, 1))
    scorer = Scorer(labels, labels, Resampler(Units(names, "patient"), RESAMPLES, 0))
    found = scorer.accuracy(np.concatenate(right).astype(float)).balanced.interval
    assert found is not None
    return found


def test_a_class_of_few_patients_widens_balanced_accuracys_interval() -> None:
    """Of 20 patients four have the third class: by 19 degrees of freedom 91 % were covered."""
    found = [balanced(20, 4, run) for run in range(200)]
    held = [one.low <= TRUTH <= one.high for one in found if isinstance(one, Interval)]
    assert len(held) == 200 and 0.93 <= np.mean(held) <= 0.975


@pytest.mark.parametrize(("with_third", "counts"), [(1, "1.0"), (2, "2.4")])
def test_a_class_of_one_or_two_patients_leaves_no_interval(with_third: int, counts: str) -> None:
    """Covered were 80 % and 87 %."""
    found = balanced(20, with_third, 0)
    assert isinstance(found, NotMeasured) and f"its 20 patients count as {counts} in it" in found.why


@pytest.mark.parametrize("units", [1, 2, MIN_UNITS - 1])
def test_few_units_have_no_interval_and_say_how_far_it_moves(units: int) -> None:
    value_N, names = cohort(np.random.default_rng(0), units)
    for found in (by_bootstrap(value_N, Units(names, "patient")), by_jackknife(value_N, Units(names, "patient"))):
        assert isinstance(found, NotMeasured)
        assert (f"{units} patients are fewer than the {MIN_UNITS}" if units > 1 else "of one patient") in found.why
