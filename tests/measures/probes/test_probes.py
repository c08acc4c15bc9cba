"""Probes: known answers, and each figure against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from made.labelled import CENTRES, CLASSES, WIDTH, labelled
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from pipeline.base.intervals import Resampler, Units
from pipeline.measures.fidelity.embedding import Scale
from pipeline.measures.probes.probes import Labelled, linear_head, probe, unmeasurable, vote
from pipeline.measures.probes.scoring import Scorer

MODELS = {"teacher": 0.9, "student": 0.7, "untrained": 0.2}


def test_a_student_equal_to_the_teacher_keeps_exactly_all():
    found = probe(labelled(300, 0), labelled(120, 1, slides=9), 20, 200, 0)
    for table in found.by_kind().values():
        assert (table.retention.value, table.retention.span.low, table.retention.span.high) == (1.0, 1.0, 1.0)
        assert table.student == table.teacher
    assert found.linear.teacher.balanced.value > 0.9
    assert (found.linear.teacher.balanced.span.unit, found.linear.teacher.balanced.span.units) == ("slide", 9)


def test_an_accuracy_and_what_is_kept_of_it_stand_beside_their_floors():
    found = probe(labelled(300, 0), labelled(120, 1), 20, 100, 0).linear
    floors = {"untrained": found.untrained.balanced.value, "majority": found.majority.balanced.value}
    assert found.student.balanced.floors == found.teacher.balanced.floors == floors
    kept = {name: floor / found.teacher.balanced.value for name, floor in floors.items()}
    assert found.retention.floors == pytest.approx(kept, rel=1e-4)


def test_features_that_know_nothing_score_near_chance():
    found = probe(labelled(600, 0), labelled(600, 1), 20, 200, 0)
    assert found.chance == pytest.approx(1 / 3, rel=1e-5)
    assert found.linear.untrained.balanced.value == pytest.approx(1 / 3, abs=0.08)
    assert found.knn.untrained.balanced.value == pytest.approx(1 / 3, abs=0.08)
    assert found.knn.majority.balanced.value == pytest.approx(1 / 3, rel=1e-5)


def test_a_student_that_answers_one_vector_scores_as_guessing_does():
    """Nothing to standardise by, nothing to fit: no NaN, and no better than the floors."""
    train, held = labelled(300, 0), labelled(120, 1)
    flat = [
        Labelled(x.labels, x.units, {**x.features, "student": np.ones((len(x.labels), WIDTH))}) for x in (train, held)
    ]
    found = probe(*flat, 20, 100, 0)
    for table in found.by_kind().values():
        assert table.student.balanced.value == pytest.approx(found.chance)


def test_figures_are_scikit_learns():
    train, held = labelled(200, 0, noise=6.0), labelled(150, 1, noise=6.0)
    found = probe(train, held, 20, 100, 0).linear.teacher
    scale = Scale.of(train.features["teacher"])
    head = linear_head(scale(train.features["teacher"]), train.labels)
    answer = head.predict(scale(held.features["teacher"]))
    assert found.balanced.value == pytest.approx(balanced_accuracy_score(held.labels, answer), rel=1e-5)
    assert found.plain.value == pytest.approx(accuracy_score(held.labels, answer), rel=1e-5)
    assert found.balanced.span.low < found.balanced.value < found.balanced.span.high


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_regularised_as_the_protocol_says(classes: int):
    """At the optimum of mean CE + lambda / 2 |W|^2 the gradient with respect to W is zero, lambda = 100 / (D K).

    W has a row a class, as in UNI; of two scikit-learn keeps the difference, and the optimum has W1 = -W0.
    """
    train = labelled(300, 0)
    train = train.only(np.isin(train.labels, CLASSES[:classes]))
    x_ND = Scale.of(train.features["teacher"])(train.features["teacher"])
    head = linear_head(x_ND, train.labels)
    weight_KD = np.concatenate([-head.coef_ / 2, head.coef_ / 2]) if classes == 2 else head.coef_
    error_NK = head.predict_proba(x_ND) - (np.asarray(train.labels)[:, None] == head.classes_[None, :])
    gradient_KD = error_NK.T @ x_ND / len(x_ND) + 100 / (WIDTH * classes) * weight_KD
    assert np.abs(gradient_KD).max() < 1e-3


def test_a_student_in_another_space_fails_the_head_transfer_only():
    train, held = labelled(300, 0), labelled(200, 1)
    turned = {"teacher": 1, "student": -1, "untrained": 1}
    found = probe(
        Labelled(train.labels, train.units, {name: turned[name] * x for name, x in train.features.items()}),
        Labelled(held.labels, held.units, {name: turned[name] * x for name, x in held.features.items()}),
        20,
        100,
        0,
    )
    assert found.linear.retention.value == pytest.approx(1.0, abs=0.01)
    assert found.head_transfer.retention.value < 0.6


def test_a_class_that_only_the_held_out_tiles_have_is_dropped_and_named():
    held = labelled(120, 1)
    strange = Labelled(
        ["necrosis" if i < 7 else label for i, label in enumerate(held.labels)], held.units, held.features
    )
    found = probe(labelled(300, 0), strange, 20, 100, 0)
    assert found.dropped_classes == ("necrosis",) and found.n == 113
    assert set(found.classes) == set(CLASSES)


def test_guessing_is_among_the_classes_that_train_has():
    train, held = labelled(300, 0), labelled(120, 1)
    found = probe(train, held.only(np.array(held.labels) != "stroma"), 20, 100, 0)
    assert set(found.classes) == {"fat", "gland"} and found.chance == pytest.approx(1 / 3, rel=1e-5)


def test_fewer_train_tiles_than_neighbours():
    assert probe(labelled(12, 3), labelled(30, 1), 20, 100, 0).n_train == 12


@pytest.mark.parametrize(
    ("train", "held", "words"),
    [
        ([], ["a"], "no train tile"),
        (["a", "b"], [], "no held-out tile"),
        (["a", "a"], ["a", "b"], "one class only"),
        (["a", "b"], ["a", "c"], "fewer than two"),
    ],
)
def test_what_cannot_be_probed_says_why(train: list[str], held: list[str], words: str):
    assert words in unmeasurable(train, held).why


def test_two_classes_can_be_probed():
    assert unmeasurable(["a", "b"], ["b", "a", "c"]) is None


def test_the_vote_is_scikit_learns():
    train, held = labelled(200, 0, noise=6.0), labelled(300, 1, noise=6.0)
    x_ND, query_ND = train.features["teacher"], held.features["teacher"]
    theirs = KNeighborsClassifier(20, metric="cosine", algorithm="brute").fit(x_ND, train.labels).predict(query_ND)
    assert (vote(x_ND, train.labels, query_ND, 20) == theirs).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_scikit_learns_own_on_features_of_very_different_spread(classes: int):
    """The start near the optimum changes nothing but the time: the same head as without it, at a tight tolerance."""
    random = np.random.default_rng(0)
    label_N = np.arange(300) % classes
    x_ND = (random.normal(size=(300, 40)) + CENTRES[label_N, :40]) * np.geomspace(1, 1e-3, 40)
    mixed_ND = x_ND @ random.normal(size=(40, 64))
    x_ND = Scale.of(mixed_ND)(mixed_ND)
    ours = linear_head(x_ND, label_N.tolist())
    rows = {2: 2, 3: 1}[classes]  # of two classes scikit-learn weighs one row, which stands for both
    theirs = LogisticRegression(C=rows * 64 * classes / (100 * 300), tol=1e-9, max_iter=9999).fit(x_ND, label_N)
    assert ours.n_iter_[0] <= 3
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-3 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(ours.predict_proba(x_ND), theirs.predict_proba(x_ND), atol=2e-3)


def test_resampled_balanced_accuracy_and_retention_are_scikit_learns_on_every_copy_written_out():
    random = np.random.default_rng(0)
    label_N = np.array(CLASSES)[random.integers(3, size=60)]
    answer = {name: np.where(random.random(60) < share, label_N, "fat") for name, share in MODELS.items()}
    resampler = Resampler(Units([f"i{i:02}" for i in range(60)], "image"), 100, 0)
    score = Scorer(label_N.tolist(), ["fat"], resampler)
    found = score.table({name: score.right(answer_N) for name, answer_N in answer.items()})
    copies = [np.repeat(np.arange(60), count_G.astype(int)) for count_G in resampler.count_BG]
    every = {name: [balanced_accuracy_score(label_N[c], a[c]) for c in copies] for name, a in answer.items()}
    for name in MODELS:
        figure = found.scores()[name].balanced
        half = reach(every[name], score.resampler.freedom) / 2
        ends = figure.value - half, figure.value + half
        assert (figure.span.low, figure.span.high) == pytest.approx((max(ends[0], 0), min(ends[1], 1)), rel=1e-4)
    kept = found.retention.span
    assert kept.high - kept.low == pytest.approx(
        reach(np.array(every["student"]) / every["teacher"], score.resampler.freedom), rel=1e-4
    )


def reach(value_B, freedom):
    """From end to end of the interval of 60 units."""
    return 2 * stats.t.ppf(0.975, freedom) * np.std(np.asarray(value_B)) * 60 / 59
