"""Downstream probes: what a simple classifier can do with each model's features, by Histill's own protocol.

Its figures are not to be set beside published ones; those of uni/ may be. It has the numbers of UNI's (Chen et al.,
Nature Medicine 2024, "Methods"), a 20-nearest-neighbour vote and a logistic regression by L-BFGS with the L2
coefficient lambda = 100 / (D K) for D channels and K classes, and differs from it: features are standardised,
neighbours are by cosine of standardised features, and the penalty is of the squared norm. The coefficient stands beside
the MEAN cross-entropy over N train tiles; scikit-learn weighs the SUM by C, so that

    mean CE + lambda / 2 |W|^2   is   C sum CE + 1/2 |W|^2   with   C = 1 / (lambda N) = D K / (100 N),

and twice that for two classes, of which scikit-learn weighs the one row W1 - W0, and one logit a class weighs both.

Every model's features are standardised with their own train statistics. `head_transfer` is the drop-in test: the
linear head trained on the TEACHER's features, applied unchanged to the student's embeddings (standardised with the
teacher's statistics, since that is what an existing head would do). Balanced accuracy is the mean of the recalls of the
classes present in the held-out tiles. Each accuracy stands beside its floors: an untrained network and the majority.
Shapes: N tiles, D channels, K classes, B resamples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.base.figures import NotMeasured
from pipeline.base.intervals import Resampler, Units
from pipeline.base.types import Floats
from pipeline.measures.fidelity.embedding import Scale
from pipeline.measures.fidelity.neighbours import nearest
from pipeline.measures.probes.logistic import near_optimum
from pipeline.measures.probes.scoring import Scorer
from pipeline.measures.split_figures import Probes

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

MAX_ITER = 5000


@dataclass(frozen=True)
class Labelled:
    """Labels of some tiles, what intervals draw of them, and each model's features of them: {model: (N, D)}."""

    labels: Sequence[str]
    units: Units
    features: Mapping[str, Floats]

    def only(self, keep_N: NDArray[np.bool_]) -> Labelled:
        """The tiles where `keep_N` is true."""
        chosen: list[int] = np.flatnonzero(keep_N).tolist()
        return Labelled(
            [self.labels[i] for i in chosen],
            self.units.take(keep_N),
            {name: feature_ND[chosen] for name, feature_ND in self.features.items()},
        )


def unmeasurable(train_labels: Sequence[str], held_labels: Sequence[str]) -> NotMeasured | None:
    """Why there is nothing to probe with these labels, or None where there is."""
    if not train_labels:
        return NotMeasured(why="no train tile has a label")
    if not held_labels:
        return NotMeasured(why="no held-out tile has a label")
    if len(set(train_labels)) < 2:
        return NotMeasured(why=f"the train tiles have one class only ({train_labels[0]})")
    if len(set(held_labels) & set(train_labels)) < 2:
        return NotMeasured(why="fewer than two of the train classes occur in the held-out tiles")
    return None


def linear_head(
    feature_ND: Floats, labels: Sequence[str] | NDArray[np.str_] | NDArray[np.integer], width: int | None = None
) -> LogisticRegression:
    """The logistic regression of the protocol, fitted on standardised features; see logistic.py for where it starts.

    `width` is the D of the penalty where the features are k < D numbers made of D: they are held down no more.
    """
    # Here, as wherever scikit-learn is: it is not loaded where the store has every figure.
    from sklearn.linear_model import LogisticRegression

    n, width = len(feature_ND), width or feature_ND.shape[1]
    classes, class_N = np.unique(np.asarray(labels), return_inverse=True)
    penalty = 100 / (width * len(classes))
    coef_KD, intercept_K = near_optimum(feature_ND, class_N, len(classes), penalty)
    if len(classes) == 2:
        # scikit-learn has one logit for two classes, w = W1 - W0. At the optimum W1 = -W0, so |W|^2 = |w|^2 / 2.
        coef_KD, intercept_K, penalty = np.diff(coef_KD, axis=0), np.diff(intercept_K), penalty / 2
    head = LogisticRegression(C=1 / (penalty * n), max_iter=MAX_ITER, warm_start=True)
    head.coef_, head.intercept_ = coef_KD, intercept_K
    return head.fit(feature_ND, labels)


def vote(train_ND: Floats, labels: Sequence[str], query_ND: Floats, k: int) -> NDArray[np.str_]:
    """The most frequent label among the k nearest train tiles by cosine; of equals the first by name."""
    classes, class_N = np.unique(np.asarray(labels, dtype=np.str_), return_inverse=True)
    index_Nk, _ = nearest(query_ND, train_ND, min(k, len(labels)))
    votes_NK = (class_N[index_Nk][:, :, None] == np.arange(len(classes))).sum(axis=1)
    found_N: NDArray[np.str_] = classes[votes_NK.argmax(axis=1)]
    return found_N


def probe(train: Labelled, held: Labelled, knn_k: int, resamples: int, seed: int) -> Probes:
    """Probe the models on one held-out split; `unmeasurable` must be None.

    Held-out tiles of a class that no train tile has are left out: nothing can have learnt it.
    """
    known = set(train.labels)
    dropped = sorted(set(held.labels) - known)
    held = held.only(np.array([label in known for label in held.labels], dtype=np.bool_))
    score = Scorer(held.labels, train.labels, Resampler(held.units, resamples, seed))
    scales = {name: Scale.of(feature_ND) for name, feature_ND in train.features.items()}
    heads, knn, linear = {}, {}, {}
    for name, scale in scales.items():
        train_ND, held_ND = scale(train.features[name]), scale(held.features[name])
        heads[name] = linear_head(train_ND, train.labels)
        knn[name] = score.right(vote(train_ND, train.labels, held_ND, knn_k))
        linear[name] = score.right(heads[name].predict(held_ND))
    transferred = {
        name: score.right(heads["teacher"].predict(scales["teacher"](x_ND))) for name, x_ND in held.features.items()
    }
    return Probes(
        knn=score.table(knn),
        linear=score.table(linear),
        head_transfer=score.table(transferred),
        chance=1 / len(known),
        classes=dict(sorted(Counter(held.labels).items())),
        dropped_classes=tuple(dropped),
        n_train=len(train.labels),
    )
