"""Fidelity against hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.base.intervals import Resampler, Units
from pipeline.measures.fidelity.embedding import Scale, cosine, fidelity


def features(n: int = 60, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(5.0, 2.0, (n, width)).astype(np.float32)


def slides(n: int, many: int) -> list[str]:
    return [f"slide-{i % many}" for i in range(n)]


RESAMPLER = Resampler(Units(slides(60, 10), "slide"), 100, 0)


def test_cosine_of_known_vectors():
    a = np.array([[1.0, 0.0], [1.0, 1.0], [3.0, 4.0], [0.0, 0.0]])
    b = np.array([[0.0, 2.0], [2.0, 2.0], [-3.0, -4.0], [1.0, 0.0]])
    assert cosine(a, b) == pytest.approx([0.0, 1.0, -1.0, 0.0])


def test_a_student_equal_to_the_teacher_scores_one():
    teacher = features()
    found, _ = fidelity(teacher, teacher, slides(60, 3), Scale.of(teacher), RESAMPLER)
    assert found.cosine.value == found.cosine_p5.value == 1.0
    assert (found.cosine.span.low, found.cosine.span.high) == (1.0, 1.0)


def test_raw_cosine_flatters_a_constant_and_the_standardised_one_does_not():
    teacher, train = features(), features(seed=1)
    constant = np.tile(train.mean(axis=0), (60, 1))
    found, _ = fidelity(teacher, constant, slides(60, 3), Scale.of(train), RESAMPLER)
    assert found.raw.value == pytest.approx(found.raw.floors["constant"], abs=1e-6)
    assert found.raw.value > 0.8
    assert abs(found.cosine.value) < 0.1


def test_the_scale_is_the_teachers_so_that_an_offset_costs():
    teacher = features()
    scale = Scale.of(teacher)
    moved, _ = fidelity(teacher, teacher + 3.0, slides(60, 3), scale, RESAMPLER)
    by_hand = cosine((teacher - teacher.mean(0)) / teacher.std(0), (teacher + 3.0 - teacher.mean(0)) / teacher.std(0))
    assert moved.cosine.value == pytest.approx(by_hand.mean(), abs=1e-5)
    assert moved.cosine.value < 0.9


def test_a_channel_that_never_moves_is_left_out():
    teacher = features()
    teacher[:, 3] = 7.0
    student = teacher.copy()
    student[:, 3] = 1e6
    found, _ = fidelity(teacher, student, slides(60, 3), Scale.of(teacher), RESAMPLER)
    assert found.cosine.value == pytest.approx(1.0)


def test_slides_are_told_apart_and_their_tiles_counted():
    teacher, student = features(), features()
    names = ["good"] * 40 + ["bad"] * 20
    student[40:] = features(seed=5)[40:]
    _, found = fidelity(teacher, student, names, Scale.of(teacher), RESAMPLER)
    assert found["good"].cosine == pytest.approx(1.0) and found["good"].n == 40
    assert found["bad"].cosine < 0.5 and found["bad"].n == 20
