"""UNI's prototypes: SimpleShot with all train tiles, and over 1,000 episodes with 1 to 256 shots a class.

Features are centred by the mean over what is learnt from, which in an episode is its own shots, and brought to length
one; a class is the mean of its own, and a tile takes the class whose mean is nearest (fewshot.py and protonet.py of
eval_patch_features). Every held-out tile is a query of every episode, and all models get the same shots.
Shapes: N held-out tiles, D channels, K classes, E episodes, S shots a class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.base.intervals import Resampler, interval
from pipeline.base.progress import Advance
from pipeline.base.types import Floats
from pipeline.measures.probes.probes import Labelled
from pipeline.measures.probes.scoring import Scorer
from pipeline.measures.split_figures import Quartiles, UniFewShot

SHOTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
EPISODES = 1000
AT_ONCE = 4_000_000
"""Distances in memory at once."""


def unit(x_ND: Floats) -> NDArray[np.float64]:
    """Rows of length one, float64; a row of zeros stays."""
    x_ND = np.asarray(x_ND, np.float64)
    unit_ND: NDArray[np.float64] = x_ND / np.maximum(np.linalg.norm(x_ND, axis=-1, keepdims=True), 1e-12)
    return unit_ND


def nearest_prototype(
    train_ND: Floats, class_N: NDArray[np.integer], classes: int, query_ND: Floats
) -> NDArray[np.int64]:
    """The class of each query with all train tiles as shots; both are centred and of length one."""
    prototype_KD = np.stack([train_ND[class_N == k].mean(axis=0) for k in range(classes)])
    # |q - p|^2 without |q|^2, which is the same for every class.
    distance_NK = np.square(prototype_KD).sum(axis=1) - 2 * query_ND @ prototype_KD.T
    found_N: NDArray[np.int64] = distance_NK.argmin(axis=1)
    return found_N


def draw(class_N: NDArray[np.integer], shots: int, episodes: int, seed: int) -> NDArray[np.int64]:
    """Train tiles of each episode, without replacement within a class, (E, K, S)."""
    random = np.random.default_rng([seed, shots])
    members = [np.flatnonzero(class_N == k) for k in range(int(class_N.max()) + 1)]
    return np.array([[random.choice(of_class, shots, replace=False) for of_class in members] for _ in range(episodes)])


def episode_answers(train_ND: Floats, query_ND: Floats, drawn_EKS: NDArray[np.int64]) -> NDArray[np.int16]:
    """The class that each episode gives each query, (E, N)."""
    # An episode's own mean is subtracted from both anyway; near zero, little is lost in |q - m|^2 below.
    middle_D = train_ND.mean(axis=0, dtype=np.float64)
    support_ND, query_ND = train_ND - middle_D, query_ND - middle_D
    square_N = np.square(query_ND).sum(axis=1)
    episodes, classes, _ = drawn_EKS.shape
    found_EN = np.empty((episodes, len(query_ND)), np.int16)
    together = max(1, AT_ONCE // (len(query_ND) * (classes + 1)))
    for start in range(0, episodes, together):
        some = drawn_EKS[start : start + together]
        mean_ED, prototype_EKD = _prototypes(support_ND, some)
        along_NE = query_ND @ mean_ED.T
        length_NE = np.sqrt(np.maximum(square_N[:, None] - 2 * along_NE + np.square(mean_ED).sum(axis=1), 1e-24))
        product_NEK = (query_ND @ prototype_EKD.reshape(-1, query_ND.shape[1]).T).reshape(-1, len(some), classes)
        product_NEK -= np.einsum("ed,ekd->ek", mean_ED, prototype_EKD)
        distance_NEK = np.square(prototype_EKD).sum(axis=2) - 2 * product_NEK / length_NE[:, :, None]
        found_EN[start : start + together] = distance_NEK.argmin(axis=2).T
    return found_EN


def _prototypes(support_ND: Floats, drawn_EKS: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each episode's mean over its shots (E, D), and its classes' prototypes (E, K, D)."""
    means, prototypes = [], []
    square_N = np.square(support_ND).sum(axis=1)
    for drawn_KS in drawn_EKS:
        shot_KSD = support_ND[drawn_KS]
        mean_D = shot_KSD.mean(axis=(0, 1))
        length_KS = np.sqrt(np.maximum(square_N[drawn_KS] - 2 * shot_KSD @ mean_D + mean_D @ mean_D, 1e-24))
        # The mean of (s - m) / |s - m| over the shots s of a class.
        weight_KS = 1 / (length_KS * drawn_KS.shape[1])
        means.append(mean_D)
        prototypes.append((weight_KS[:, None] @ shot_KSD)[:, 0] - weight_KS.sum(axis=1, keepdims=True) * mean_D)
    return np.stack(means), np.stack(prototypes)


def uni_few_shot(
    train: Labelled, held: Labelled, resamples: int, seed: int, advance: Advance, episodes: int = EPISODES
) -> dict[int, UniFewShot]:
    """By number of shots a class, those of `SHOTS` that every class has tiles for.

    Held-out tiles of a class that no train tile has are left out.
    """
    classes, class_N = np.unique(np.asarray(train.labels, dtype=np.str_), return_inverse=True)
    held = held.only(np.isin(np.asarray(held.labels, dtype=np.str_), classes))
    score = Scorer(held.labels, train.labels, Resampler(held.units, resamples, seed))
    truth_N = np.searchsorted(classes, score.label_N)
    found = {}
    for shots in [shots for shots in SHOTS if shots <= np.bincount(class_N).min()]:
        drawn_EKS = draw(class_N, shots, episodes, seed)
        answers = {}
        for name, x_ND in train.features.items():
            advance(0, note=f"{shots} shots a class, {name}")
            answers[name] = episode_answers(x_ND, held.features[name], drawn_EKS)
        by_episode = {name: scores(found_EN, truth_N, len(classes)) for name, found_EN in answers.items()}
        found[shots] = UniFewShot(
            accuracies=score.table({name: (found_EN == truth_N).mean(axis=0) for name, found_EN in answers.items()}),
            episodes=episodes,
            episode_range={name: _ends(balanced_E) for name, (balanced_E, _) in by_episode.items()},
            balanced={name: _quartiles(balanced_E) for name, (balanced_E, _) in by_episode.items()},
            weighted_f1={name: _quartiles(f1_E) for name, (_, f1_E) in by_episode.items()},
        )
    return found


def scores(
    found_EN: NDArray[np.integer], truth_N: NDArray[np.integer], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Balanced accuracy and weighted F1 of each episode, (E,) both."""
    is_KN = truth_N == np.arange(classes)[:, None]
    right_EN = found_EN == truth_N
    hit_EK = right_EN.astype(np.float64) @ is_KN.T
    said_EK = np.stack([(found_EN == k).sum(axis=1) for k in range(classes)], axis=1)
    there_K = is_KN.sum(axis=1)
    recall_EK = hit_EK[:, there_K > 0] / there_K[there_K > 0]
    f1_EK = 2 * hit_EK / np.maximum(said_EK + there_K, 1)
    return recall_EK.mean(axis=1), f1_EK @ (there_K / len(truth_N))


def _ends(value_E: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    low, high = interval(np.asarray(value_E))
    return low, high


def _quartiles(value_E: NDArray[np.float64]) -> Quartiles:
    low, middle, high = np.percentile(value_E, [25, 50, 75]).tolist()
    return Quartiles(low=low, median=middle, high=high)
