"""UNI's probes of tile labels: linear, 20 nearest neighbours, SimpleShot; balanced accuracy, weighted F1, AUROC.

Neighbours and SimpleShot take features that are centred by the mean over the train tiles and brought to length one;
the neighbours' vote is scikit-learn's, Euclidean and unweighted (fewshot.py of eval_patch_features). The linear probe
takes them raw (linear.py). AUROC is of the linear probe's probabilities: of the second class where there are two, else
the mean over all pairs of classes (linear_probe.py). `head_transfer`, the teacher's linear probe applied unchanged to
the student's raw embeddings, is not of that code. Balanced accuracy has its interval as everywhere; F1 and AUROC, which
are no means over tiles, have a jackknife's.
Shapes: N tiles, D channels, K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.base.figures import Figure, NotMeasured
from pipeline.base.intervals import Jackknife, Resampler
from pipeline.base.progress import Advance
from pipeline.measures.probes.probes import Labelled
from pipeline.measures.probes.scoring import Scorer
from pipeline.measures.split_figures import UniProbes, UniScore
from pipeline.measures.uni.linear import fit_head
from pipeline.measures.uni.simpleshot import nearest_prototype, scores, unit

NEIGHBOURS = 20


@dataclass(frozen=True)
class _Answer:
    """Of one probe of one model: the class of each held-out tile (N,), and the classes' probabilities (N, K)."""

    class_N: NDArray[np.int64]
    probability_NK: NDArray[np.float64] | None = None


def uni_probe(train: Labelled, held: Labelled, resamples: int, seed: int, advance: Advance) -> UniProbes:
    """Probe the models on one held-out split; `unmeasurable` must be None.

    Held-out tiles of a class that no train tile has are left out. With fewer train tiles than neighbours all vote.
    """
    from sklearn.neighbors import KNeighborsClassifier

    classes, class_N = np.unique(np.asarray(train.labels, dtype=np.str_), return_inverse=True)
    known_N = np.isin(np.asarray(held.labels, dtype=np.str_), classes)
    dropped = sorted(set(held.labels) - set(classes.tolist()))
    held = held.only(known_N)
    truth_N = np.searchsorted(classes, np.asarray(held.labels, dtype=np.str_))
    answers: dict[str, dict[str, _Answer]] = {"knn": {}, "linear": {}, "head_transfer": {}, "simpleshot": {}}
    heads = {}
    for name, train_ND in train.features.items():
        advance(0, note=f"UNI’s probes, {name}")
        mean_D = train_ND.mean(axis=0, dtype=np.float64)
        learnt_ND, asked_ND = unit(train_ND - mean_D), unit(held.features[name] - mean_D)
        vote = KNeighborsClassifier(n_neighbors=min(NEIGHBOURS, len(class_N))).fit(learnt_ND, class_N)
        answers["knn"][name] = _Answer(vote.predict(asked_ND))
        answers["simpleshot"][name] = _Answer(nearest_prototype(learnt_ND, class_N, len(classes), asked_ND))
        heads[name] = fit_head(train_ND, class_N, len(classes))
    for name, held_ND in held.features.items():
        for kind, head in (("linear", heads[name]), ("head_transfer", heads["teacher"])):
            probability_NK = head.probabilities(held_ND)
            answers[kind][name] = _Answer(probability_NK.argmax(axis=1), probability_NK)
    score = Scorer(held.labels, train.labels, Resampler(held.units, resamples, seed))
    left_out = Jackknife(held.units, score.is_class_NK)
    tables = {
        kind: score.table({name: score.right(classes[answer.class_N]) for name, answer in of_kind.items()})
        for kind, of_kind in answers.items()
    }
    return UniProbes(
        **tables,
        scores={
            kind: {name: _score(answer, truth_N, left_out) for name, answer in of_kind.items()}
            for kind, of_kind in answers.items()
        },
        chance=1 / len(classes),
        classes=dict(sorted(Counter(held.labels).items())),
        dropped_classes=tuple(dropped),
        n_train=len(train.labels),
    )


def _score(answer: _Answer, truth_N: NDArray[np.int64], left_out: Jackknife) -> UniScore:
    found_N, probability_NK = answer.class_N, answer.probability_NK
    f1 = _figure(lambda at_N: weighted_f1(truth_N[at_N], found_N[at_N]), len(truth_N), left_out)
    if probability_NK is None:
        return UniScore(weighted_f1=f1)
    return UniScore(
        weighted_f1=f1,
        auroc=_figure(lambda at_N: auroc(truth_N[at_N], probability_NK[at_N]), len(truth_N), left_out),
    )


def _figure(of: Callable[[NDArray[np.bool_]], float], n: int, left_out: Jackknife) -> Figure:
    value = of(np.ones(n, np.bool_))
    without = [of(left_out.block_N != block) for block in range(left_out.blocks)]
    if np.isnan(without).any():
        # Without that unit one class is left, and nothing to tell it from.
        gone = NotMeasured(why=f"without one of its {left_out.unit}s only one class is left")
        return Figure(value=value, interval=gone, n=n)
    return Figure(value=value, interval=left_out.interval(value, without, 0.0, 1.0), n=n)


def weighted_f1(truth_N: NDArray[np.int64], found_N: NDArray[np.int64]) -> float:
    """F1 of each class, weighted by its tiles."""
    _, f1_1 = scores(found_N[None], truth_N, 1 + int(max(truth_N.max(), found_N.max())))
    return float(f1_1[0])


def auroc(truth_N: NDArray[np.int64], probability_NK: NDArray[np.float64]) -> float:
    """Over the pairs of classes that occur, each from both sides; NaN where only one does."""
    present = np.unique(truth_N).tolist()
    if len(present) < 2:
        return float("nan")
    if probability_NK.shape[1] == 2:
        return _area(probability_NK[:, 1], truth_N == 1)
    areas = []
    for one, other in combinations(present, 2):
        pair_N = (truth_N == one) | (truth_N == other)
        among_NK, is_one_N = probability_NK[pair_N], truth_N[pair_N] == one
        areas += [_area(among_NK[:, one], is_one_N), _area(among_NK[:, other], ~is_one_N)]
    return float(np.mean(areas))


def _area(score_N: NDArray[np.float64], positive_N: NDArray[np.bool_]) -> float:
    """Under the ROC curve: of all pairs of a positive and a negative, those in order, and half of those that tie."""
    from scipy.stats import rankdata

    positives = int(positive_N.sum())
    negatives = len(positive_N) - positives
    above = float(rankdata(score_N)[positive_N].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)
