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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline.base.figures import NotMeasured
from pipeline.base.intervals import Resampler
from pipeline.base.kept import Basis
from pipeline.base.progress import Advance
from pipeline.evaluate.answers.embeddings import embeddings
from pipeline.evaluate.labels.rivals import Drawn, Rival, Tile, rival
from pipeline.evaluate.labels.supervised import Recipe
from pipeline.evaluate.models import Net
from pipeline.evaluate.run import Run
from pipeline.evaluate.selection import Sample
from pipeline.measures.fidelity.embedding import Scale
from pipeline.measures.probes.probes import Labelled, linear_head
from pipeline.measures.probes.scoring import Scorer
from pipeline.measures.split_figures import FromLabels
from pipeline.params.evaluate import EvaluateParams

FROM_LABELS = TypeAdapter(FromLabels)
DRAWS = 3
ALONE = "from_labels"
"""What the student's architecture, trained on the labels alone, is called beside `teacher` and `student`."""


def too_few(labels: Sequence[str], k: int) -> NotMeasured | None:
    """Why k tiles a class cannot be drawn, or None where they can."""
    name, n = min(Counter(labels).items(), key=lambda pair: (pair[1], pair[0]))
    return NotMeasured(why=f"class {name} has {n} labelled train tiles") if n < k else None


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


@dataclass(frozen=True)
class LabelledTiles:
    """Tiles that have a label: where they are, and in the same order their labels and features."""

    samples: Sequence[Sample]
    known: Labelled


Efficiency = Mapping[str, Mapping[int, FromLabels | NotMeasured]]
"""By split and by labels a class; a number of labels that a class has not is said to be so."""


def against_labels(run: Run, train: LabelledTiles, held: Mapping[str, LabelledTiles], advance: Advance) -> Efficiency:
    """The student against nets trained on labels of the train tiles, on each held-out split."""
    labels, params = train.known.labels, run.params
    missing = {k: why for k in params.from_labels if (why := too_few(labels, k))}
    drawn = {k: draw(labels, k, params.seed) for k in params.from_labels if k not in missing}
    rivals = {
        (k, number): rival(run.models.folder, one, Recipe(steps=params.label_steps), run.kept, advance)
        for (k, number), one in _draws(train, drawn, params.seed)
    }
    splits: dict[str, dict[int, FromLabels | NotMeasured]] = {}
    for split, tiles in held.items():
        answers = _answers(run, rivals, np.unique(labels), tiles.samples, advance) if rivals else {}
        train_held: Basis = {"train": run.tiles(train.samples), "held": run.tiles(tiles.samples)}
        splits[split] = dict(missing)
        for k, at_RM in drawn.items():
            of_k = [rivals[k, number] for number in range(DRAWS)]
            drawing = Drawing(at_RM, [trained.loss for trained in of_k])
            rival_RN = np.stack([answers[k, number] for number in range(DRAWS)])
            nets: Basis = {"nets": [run.kept.digest(trained.ref) for trained in of_k]}
            slot = run.slot("from labels", FROM_LABELS, ("bootstrap", "seed"), {**run.both(), **train_held, **nets})
            splits[split][k] = slot.find() or slot.keep(
                label_figures(drawing, rival_RN, train.known, tiles.known, params)
            )
    return splits


def _draws(
    train: LabelledTiles, drawn: Mapping[int, NDArray[np.int64]], seed: int
) -> Iterator[tuple[tuple[int, int], Drawn]]:
    """Of each k, and each number of a draw: what one net learns from."""
    tiles: list[Tile] = [(sample.tiles, int(row)) for sample in train.samples for row in sample.rows]
    classes, class_N = np.unique(np.asarray(train.known.labels, dtype=np.str_), return_inverse=True)
    for k, at_RM in drawn.items():
        for number, at_M in enumerate(at_RM):
            own = int(np.random.default_rng([seed, k, number, 1]).integers(2**31))
            yield (k, number), Drawn([tiles[i] for i in at_M], class_N[at_M], len(classes), own)


def _answers(
    run: Run,
    rivals: Mapping[tuple[int, int], Rival],
    classes: NDArray[np.str_],
    samples: Sequence[Sample],
    advance: Advance,
) -> dict[tuple[int, int], NDArray[np.str_]]:
    """The label that each net gives each tile, (N,)."""
    nets = [Net.of(run.models.folder, trained.model) for trained in rivals.values()]
    logits = embeddings(nets, samples, run.params.batch_size, run.kept, advance)
    return {key: classes[logit_NK.argmax(axis=1)] for key, logit_NK in zip(rivals, logits, strict=True)}


@dataclass(frozen=True)
class Drawing:
    """R draws of M train tiles, and the training loss of the net that learnt from each."""

    at_RM: NDArray[np.int64]
    loss_R: Sequence[float]


def label_figures(
    drawing: Drawing, rival_RN: NDArray[np.str_], train: Labelled, held: Labelled, params: EvaluateParams
) -> FromLabels:
    """The figures of one number of labels; `rival_RN` are the labels that the nets give the held-out tiles.

    Classes that the train tiles do not have are left out.
    """
    known_N = np.isin(np.asarray(held.labels, dtype=np.str_), np.asarray(train.labels, dtype=np.str_))
    held, rival_RN = held.only(known_N), rival_RN[:, known_N]
    score = Scorer(held.labels, train.labels, Resampler(held.units, params.bootstrap, params.seed))
    label_N = np.asarray(train.labels, dtype=np.str_)
    right_RN = {}
    for name, feature_ND in train.features.items():
        scale = Scale.of(feature_ND)
        train_ND, held_ND = scale(feature_ND), scale(held.features[name])
        heads = [linear_head(train_ND[at_M], label_N[at_M]) for at_M in drawing.at_RM]
        right_RN[name] = np.stack([score.right(head.predict(held_ND)) for head in heads])
    right_RN[ALONE] = np.stack([score.right(found_N) for found_N in rival_RN])
    mean_N = {name: right.mean(axis=0) for name, right in right_RN.items()}
    return FromLabels(
        accuracies=score.table(mean_N),
        from_labels=score.accuracy(mean_N[ALONE]),
        gain=score.difference(mean_N["student"], mean_N[ALONE]),
        by_draw={name: tuple(score.balanced(right_N) for right_N in right) for name, right in right_RN.items()},
        train_loss=tuple(drawing.loss_R),
        n_train=drawing.at_RM.shape[1],
    )


def training_tiles(params: EvaluateParams) -> int:
    """Tiles that all trainings look at: for the progress bar."""
    return len(params.from_labels) * DRAWS * params.label_steps * Recipe.batch_size
