"""Fidelity of dense tokens against hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.base.intervals import Resampler, Units
from pipeline.measures.fidelity.embedding import SlideCosine, cosine
from pipeline.measures.fidelity.patch import patch_fidelity
from pipeline.measures.split_figures import Likeness

N, T, D = 12, 9, 6
MU, SIGMA = np.full(D, 5.0, np.float32), np.linspace(0.5, 2, D).astype(np.float32)


def tokens(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N, T, D)).astype(np.float32)


def found_of(student_NTD: np.ndarray, step: int = 5) -> tuple[Likeness, dict[str, SlideCosine]]:
    teacher_NTD = tokens(0)
    batches = [(teacher_NTD[i : i + step], student_NTD[i : i + step]) for i in range(0, N, step)]
    names = [f"s{i % 8}" for i in range(N)]
    return patch_fidelity(batches, MU, SIGMA, names, Resampler(Units(names, "slide"), 200, 0))


def test_tokens_equal_to_the_teachers_score_one():
    found, _ = found_of(tokens(0))
    for figure in (found.cosine, found.cosine_p5, found.raw):
        assert figure.value == pytest.approx(1.0, abs=1e-6) and figure.n == N * T
    for figure in (found.cosine, found.cosine_p5):
        assert (figure.span.low, figure.span.high) == pytest.approx((1, 1))
        assert (figure.unit, figure.span.units) == ("slide", 8)


def test_a_constant_scores_nothing_though_its_raw_cosine_is_high():
    found, _ = found_of(np.zeros((N, T, D), np.float32))
    assert found.cosine.value == 0
    assert found.raw.value == pytest.approx(found.raw.floors["constant"], abs=1e-6) and found.raw.value > 0.8


def test_figures_are_those_of_all_tokens_at_once():
    found, _ = found_of(tokens(0) + tokens(1))
    every = cosine(tokens(0).reshape(-1, D), (tokens(0) + tokens(1)).reshape(-1, D))
    assert found.cosine.value == pytest.approx(every.mean(), abs=1e-6)
    assert found.cosine_p5.value == pytest.approx(np.percentile(every, 5), abs=1e-6)
    assert found.cosine_p5.span.low < found.cosine_p5.value < found.cosine_p5.span.high


def test_batches_do_not_matter():
    assert found_of(tokens(1), 5) == found_of(tokens(1), 12)


def test_each_slide_has_its_own():
    student_NTD = tokens(0)
    student_NTD[2::8] = tokens(4)[2::8]
    _, slides = found_of(student_NTD)
    assert slides["s0"].cosine == pytest.approx(1, abs=1e-6) and slides["s2"].cosine < 0.5
    assert slides["s2"].n == len(range(2, N, 8))
