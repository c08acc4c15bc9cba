"""SimpleShot: known answers, and one episode by hand."""

from __future__ import annotations

import numpy as np
import pytest
from made.labelled import labelled
from sklearn.neighbors import NearestCentroid

from pipeline.measures.probes.few_shot import few_shot, shots_possible
from pipeline.measures.probes.probes import Labelled


def test_a_student_equal_to_the_teacher_keeps_exactly_all():
    found = few_shot(labelled(300, 0), labelled(120, 1, slides=9), 10, 100, 0)
    for shots in found.values():
        kept = shots.accuracies.retention
        assert (kept.value, kept.span.low, kept.span.high) == (1.0, 1.0, 1.0)
        assert shots.accuracies.student == shots.accuracies.teacher


def test_features_that_know_nothing_score_near_chance():
    found = few_shot(labelled(600, 0), labelled(600, 1), 20, 100, 0)
    assert found[8].accuracies.untrained.balanced.value == pytest.approx(1 / 3, abs=0.05)


def test_more_shots_know_more():
    found = few_shot(labelled(600, 0, noise=8.0), labelled(300, 1, noise=8.0), 20, 100, 0)
    accuracy = [found[shots].accuracies.teacher.balanced.value for shots in (1, 4, 16)]
    assert accuracy == sorted(accuracy) and accuracy[0] < accuracy[-1]


def test_all_tiles_as_shots_are_scikit_learns_nearest_centroid():
    """With as many shots as each class has tiles, every episode is the same."""
    train, held = labelled(60, 0, noise=6.0), labelled(100, 1, noise=6.0)
    rows = [i for name in sorted(set(train.labels)) for i in np.flatnonzero(np.array(train.labels) == name)[:4]]
    keep_N = np.isin(np.arange(60), rows)
    train = train.only(keep_N)
    mean_D = train.features["teacher"].mean(0)
    unit = [x - mean_D for x in (train.features["teacher"], held.features["teacher"])]
    support, query = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in unit)
    expected = NearestCentroid().fit(support, train.labels).predict(query)
    found = few_shot(train, held, 3, 100, 0)[4].accuracies.teacher
    assert found.plain.value == pytest.approx((expected == np.array(held.labels)).mean(), rel=1e-5)


def test_shots_that_a_class_has_not_are_left_out():
    assert shots_possible(["a"] * 9 + ["b"] * 5) == [1, 2, 4]
    assert shots_possible([]) == []
    assert list(few_shot(labelled(300, 0).only(np.arange(300) < 40), labelled(50, 1), 2, 100, 0)) == [1, 2, 4]


def test_the_majority_of_the_train_tiles_is_the_floor():
    """By hand: fat is most frequent in train; of the held-out tiles 3 of 4 are fat, and 1 of 2 classes."""
    train, held = labelled(300, 0), labelled(60, 1)
    keep = np.isin(np.arange(60), [*np.flatnonzero(np.array(held.labels) == "fat")[:3], held.labels.index("gland")])
    for shots in few_shot(train, held.only(keep), 2, 100, 0).values():
        majority = shots.accuracies.majority
        assert (majority.plain.value, majority.balanced.value) == (0.75, 0.5)


def test_episodes_are_seeded():
    train, held = labelled(200, 0, noise=6.0), labelled(100, 1, noise=6.0)
    runs = [few_shot(train, held, 5, 100, seed)[1].accuracies.teacher.balanced.value for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_a_class_without_train_tiles_is_no_query():
    held = labelled(50, 1)
    strange = Labelled(["necrosis", *held.labels[1:]], held.units, held.features)
    assert few_shot(labelled(200, 0), strange, 2, 100, 0)[1].accuracies.teacher.plain.value > 0
