"""What distillation is worth in labels: the distilled student against the same net trained on those labels alone.

For each k of `evaluate.from_labels`, k labelled train tiles a class are drawn `DRAWS` times, the same for everyone:

    teacher, student, untrained   the linear probe of probes.py on frozen features of the drawn tiles; standardised with
                                  the statistics of all train tiles, which takes no label (as in few_shot.py)
    from_labels                   the student's architecture trained from random weights on the drawn tiles' images and
                                  labels, answering with its own head (supervised.py)

A figure is the mean over the draws, and its interval is over the held-out slides or tiles, as everywhere; `gain` is
student minus from_labels, paired: the same held-out tiles and the same draws. `by_draw` shows what other draws do.
Shapes: N held-out tiles, D channels, K classes, R draws, M = k K drawn tiles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.intervals import Resampler
from pipeline.base.progress import Advance
from pipeline.base.store import Store
from pipeline.evaluate import features
from pipeline.evaluate.fidelity.embedding import Scale
from pipeline.evaluate.labels.rivals import Rival, Tile, rival
from pipeline.evaluate.labels.supervised import Recipe
from pipeline.evaluate.probes.probes import Labelled, linear_head
from pipeline.evaluate.probes.scoring import Scorer
from pipeline.evaluate.selection import Sample
from pipeline.params.evaluate import EvaluateParams

DRAWS = 3
ALONE = "from_labels"
"""What the student's architecture, trained on the labels alone, is called beside `teacher` and `student`."""


def too_few(labels: Sequence[str], k: int) -> str | None:
    """Why k tiles a class cannot be drawn, or None where they can."""
    name, n = min(Counter(labels).items(), key=lambda pair: (pair[1], pair[0]))
    return f"class {name} has {n} labelled train tiles" if n < k else None


def draw(labels: Sequence[str], k: int, seed: int) -> NDArray[np.int64]:
    """`DRAWS` times k positions of each class, without replacement and class after class by name, (R, M)."""
    label_N = np.asarray(labels, dtype=np.str_)
    members = [np.flatnonzero(label_N == name) for name in np.unique(label_N)]
    return np.stack(
        [
            np.concatenate([random.choice(of_class, k, replace=False) for of_class in members])
            for random in (np.random.default_rng([seed, k, number]) for number in range(DRAWS))
        ]
    )


@dataclass
class Efficiency:
    """`splits`: {split: {k (as text, since it becomes JSON): see `label_figures`, and `train_loss` [R]}}."""

    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    uses: list[str] = field(default_factory=list)
    """Store items of the trained nets."""


def against_labels(
    folder: Path,
    train: Sequence[Sample],
    held: Mapping[str, Sequence[Sample]],
    fitted: Labelled,
    compared: Mapping[str, Labelled],
    params: EvaluateParams,
    store: Store,
    advance: Advance,
) -> Efficiency:
    """All figures; a k that a class has not is named in `why`.

    `train` and `held` are labelled samples, `fitted` and `compared` their labels and features in the same order;
    `folder` is the exported student.
    """
    found, recipe = Efficiency(), Recipe(steps=params.label_steps)
    label_N = np.asarray(fitted.labels, dtype=np.str_)
    classes = np.unique(label_N)
    tiles: list[Tile] = [(sample.tiles, int(row)) for sample in train for row in sample.rows]
    drawn: dict[int, NDArray[np.int64]] = {}
    rivals: dict[tuple[int, int], Rival] = {}
    for k in params.from_labels:
        reason = too_few(fitted.labels, k)
        if reason:
            found.why |= {f"from_labels {k}, {split}": reason for split in held}
            continue
        drawn[k] = draw(fitted.labels, k, params.seed)
        for number, at_M in enumerate(drawn[k]):
            class_M = np.searchsorted(classes, label_N[at_M])
            seed = int(np.random.default_rng([params.seed, k, number, 1]).integers(2**31))
            chosen = [tiles[i] for i in at_M]
            rivals[k, number] = rival(folder, chosen, class_M, len(classes), seed, recipe, store, advance)
    found.uses = [str(trained.ref) for trained in rivals.values()]
    for split in held if rivals else ():
        nets = [trained.model for trained in rivals.values()]
        logits = features.student_features(nets, held[split], params.batch_size, advance)
        answers = {key: classes[logit_NK.argmax(axis=1)] for key, logit_NK in zip(rivals, logits, strict=True)}
        found.splits[split] = {}
        for k, at_RM in drawn.items():
            rival_RN = np.stack([answers[k, number] for number in range(DRAWS)])
            figures = label_figures(fitted, compared[split], at_RM, rival_RN, params.bootstrap, params.seed)
            losses = [rivals[k, number].loss for number in range(DRAWS)]
            found.splits[split][str(k)] = figures | {"train_loss": losses}
    return found


def label_figures(
    train: Labelled, held: Labelled, at_RM: NDArray[np.int64], rival_RN: NDArray[Any], resamples: int, seed: int
) -> dict[str, Any]:
    """Each model's figures as in `probe`, `retention`, `majority`, `gain` {value, interval}, `by_draw` {model: [R]}.

    `rival_RN` are the labels that the net trained on each draw gives the held-out tiles. Classes that the train tiles
    do not have are left out.
    """
    known_N = np.isin(np.asarray(held.labels, dtype=np.str_), np.asarray(train.labels, dtype=np.str_))
    held, rival_RN = held.only(known_N), rival_RN[:, known_N]
    score = Scorer(held.labels, Resampler(held.slides, resamples, seed))
    label_N = np.asarray(train.labels, dtype=np.str_)
    right_RN = {}
    for name, feature_ND in train.features.items():
        scale = Scale.of(feature_ND)
        train_ND, held_ND = scale(feature_ND), scale(held.features[name])
        heads = [linear_head(train_ND[at_M], label_N[at_M]) for at_M in at_RM]
        right_RN[name] = np.stack([score.right(head.predict(held_ND)) for head in heads])
    right_RN[ALONE] = np.stack([score.right(found_N) for found_N in rival_RN])
    mean_N = {name: right.mean(axis=0) for name, right in right_RN.items()}
    by_draw = {
        name: [score.figures(right_N)["balanced_accuracy"] for right_N in right] for name, right in right_RN.items()
    }
    return score.table(mean_N) | {
        "gain": score.difference(mean_N["student"], mean_N[ALONE]),
        "majority": score.majority(train.labels),
        "by_draw": by_draw,
        "n_train": at_RM.shape[1],
        "n": len(held.labels),
        "by": score.resampler.by,
    }


def training_tiles(params: EvaluateParams) -> int:
    """Tiles that all trainings look at: for the progress bar."""
    return len(params.from_labels) * DRAWS * params.label_steps * Recipe.batch_size
