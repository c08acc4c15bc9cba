"""SimpleShot: what a handful of labelled tiles is worth with each model's features.

Wang et al. 2019 (arXiv:1911.04623): features are centred by the mean over the train tiles and brought
to length one; a class is the mean of its shots; a held-out tile takes the class whose centroid is nearest (Euclidean).
An episode draws its shots for all classes; every model gets the same draws, and every held-out tile is a query.
Shapes: N held-out tiles, D channels, K classes, E episodes, S shots.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.base.intervals import Resampler, interval
from pipeline.base.types import Floats
from pipeline.measures.probes.probes import Labelled
from pipeline.measures.probes.scoring import Scorer
from pipeline.measures.split_figures import FewShot

SHOTS = (1, 2, 4, 8, 16, 32)
TOGETHER = 20
"""Episodes answered by one matrix product."""


def shots_possible(labels: Sequence[str]) -> list[int]:
    """Those of `SHOTS` that every class has tiles for."""
    fewest = min(Counter(labels).values(), default=0)
    return [shots for shots in SHOTS if shots <= fewest]


def few_shot(train: Labelled, held: Labelled, episodes: int, resamples: int, seed: int) -> dict[int, FewShot]:
    """By number of shots a class, those of `shots_possible`.

    Classes that the train tiles do not have are left out as in `probe`. Intervals are over held-out slides or tiles, of
    the mean over episodes; the range over episodes is what drawing other shots does.
    """
    known = set(train.labels)
    held = held.only(np.array([label in known for label in held.labels], dtype=np.bool_))
    score = Scorer(held.labels, train.labels, Resampler(held.units, resamples, seed))
    support = {name: train_ND - train_ND.mean(axis=0) for name, train_ND in train.features.items()}
    query = {name: _unit(held.features[name] - x.mean(axis=0)) for name, x in train.features.items()}
    support = {name: _unit(train_ND) for name, train_ND in support.items()}
    classes, class_N = np.unique(np.asarray(train.labels, dtype=np.str_), return_inverse=True)
    members = [np.flatnonzero(class_N == k) for k in range(len(classes))]
    found = {}
    for shots in shots_possible(train.labels):
        random = np.random.default_rng([seed, shots])
        drawn_EKS = np.array(
            [[random.choice(of_class, shots, replace=False) for of_class in members] for _ in range(episodes)]
        )
        right_EN = {name: _right(support[name], query[name], drawn_EKS, classes, score.label_N) for name in support}
        found[shots] = FewShot(
            accuracies=score.table({name: right.mean(axis=0) for name, right in right_EN.items()}),
            episodes=episodes,
            episode_range={name: _range(score, right) for name, right in right_EN.items()},
        )
    return found


def _right(
    support_ND: Floats,
    query_ND: Floats,
    drawn_EKS: NDArray[np.int64],
    classes: NDArray[np.str_],
    label_N: NDArray[np.str_],
) -> NDArray[np.bool_]:
    """Whether each episode's nearest centroid is each held-out tile's class, (E, N)."""
    right_EN = np.empty((len(drawn_EKS), len(query_ND)), np.bool_)
    for start in range(0, len(drawn_EKS), TOGETHER):
        centroid_EKD = support_ND[drawn_EKS[start : start + TOGETHER]].mean(axis=2)
        product_NEK = (query_ND @ centroid_EKD.reshape(-1, query_ND.shape[1]).T).reshape(-1, *centroid_EKD.shape[:2])
        # |q - c|^2 without |q|^2, which is the same for every class.
        distance_NEK = np.square(centroid_EKD).sum(axis=2) - 2 * product_NEK
        right_EN[start : start + TOGETHER] = (classes[distance_NEK.argmin(axis=2)] == label_N[:, None]).T
    return right_EN


def _range(score: Scorer, right_EN: NDArray[np.bool_]) -> tuple[float, float]:
    recall_EK = (right_EN @ score.is_class_NK.astype(np.float64)) / score.is_class_NK.sum(axis=0)
    low, high = interval(recall_EK.mean(axis=1))
    return low, high


def _unit(x_ND: Floats) -> NDArray[np.float32]:
    x_ND = x_ND.astype(np.float32)
    unit_ND: NDArray[np.float32] = x_ND / np.maximum(np.linalg.norm(x_ND, axis=1, keepdims=True), 1e-12)
    return unit_ND
