"""Accuracy of several models' answers about the same tiles, with one set of resamples for all of them.

Balanced accuracy is the mean of the recalls of the classes present in the held-out tiles. `right_N` may be a share (of
episodes in which a tile was right): the figure is then the mean over episodes.
Shapes: N tiles, K classes, B resamples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.figures import Figure, NotMeasured
from pipeline.base.intervals import Resampler
from pipeline.base.types import Floats
from pipeline.measures.split_figures import Accuracies, Accuracy

NOTHING_RIGHT = NotMeasured(why="in some resamples the teacher itself gets nothing right")
NO_WAY = NotMeasured(why="the teacher is no better than the untrained student")
UNSURE_WAY = NotMeasured(why="in some resamples the teacher is no better than the untrained student")


class Scorer:
    """Scores predictions against labels; the floor `majority` answers with the most frequent of the train labels."""

    def __init__(self, labels: Sequence[str], train_labels: Sequence[str], resampler: Resampler) -> None:
        self.label_N = np.asarray(labels, dtype=np.str_)
        self.classes, class_N = np.unique(self.label_N, return_inverse=True)
        self.is_class_NK = class_N[:, None] == np.arange(len(self.classes))[None, :]
        self.resampler = resampler = resampler.over(self.is_class_NK)
        self._total_BK = resampler.sums(self.is_class_NK.astype(np.float64))
        most_frequent = Counter(train_labels).most_common(1)[0][0]
        self._majority_N = self.right(np.full(len(self.label_N), most_frequent))

    def right(self, found_N: NDArray[np.str_]) -> NDArray[np.float64]:
        """1 where the predicted label is the tile's, else 0."""
        right_N: NDArray[np.float64] = (found_N == self.label_N).astype(np.float64)
        return right_N

    def balanced(self, right_N: Floats) -> float:
        """Balanced accuracy."""
        recall_K = (self.is_class_NK * right_N[:, None]).sum(axis=0) / self.is_class_NK.sum(axis=0)
        return float(recall_K.mean())

    def accuracy(self, right_N: Floats, floors: Mapping[str, float] | None = None) -> Accuracy:
        """Both accuracies of one model's answers; the balanced one beside its floors."""
        value = self.balanced(right_N)
        balanced = Figure(
            value=value,
            interval=self.resampler.interval(value, self._resampled(right_N), 0, 1),
            floors=floors or {},
            n=len(right_N),
        )
        return Accuracy(balanced=balanced, plain=Figure(value=float(right_N.mean()), n=len(right_N)))

    def table(self, right: Mapping[str, Floats]) -> Accuracies:
        """Of the models `teacher`, `student` and `untrained`, the latter and the majority being the others' floors."""
        floors = {"untrained": self.balanced(right["untrained"]), "majority": self.balanced(self._majority_N)}
        names = ("teacher", "student", "untrained")
        paired = Paired(
            {name: self.balanced(right[name]) for name in names},
            {name: self._resampled(right[name]) for name in names},
            len(self.label_N),
        )
        return Accuracies(
            teacher=self.accuracy(right["teacher"], floors),
            student=self.accuracy(right["student"], floors),
            untrained=self.accuracy(right["untrained"]),
            majority=self.accuracy(self._majority_N),
            retention=share_kept(paired, floors, self.resampler),
            way=way_come(paired, self.resampler),
        )

    def difference(self, right_N: Floats, other_N: Floats) -> Figure:
        """Balanced accuracy of the first minus that of the other; paired."""
        value = self.balanced(right_N) - self.balanced(other_N)
        between = self.resampler.interval(value, self._resampled(right_N) - self._resampled(other_N), -1, 1)
        return Figure(value=value, interval=between, n=len(right_N))

    def _resampled(self, right_N: Floats) -> NDArray[np.float64]:
        """Balanced accuracy of every resample, over the classes that it drew."""
        recall_BK = self.resampler.sums(self.is_class_NK * right_N[:, None]) / np.maximum(self._total_BK, 1)
        drawn_BK = self._total_BK > 0
        balanced_B: NDArray[np.float64] = (recall_BK * drawn_BK).sum(axis=1) / drawn_BK.sum(axis=1)
        return balanced_B


@dataclass(frozen=True)
class Paired:
    """One measure of `teacher`, `student` and `untrained` over n tiles, and its values in the same resamples (B,)."""

    values: Mapping[str, float]
    resampled: Mapping[str, Floats]
    n: int


def share_kept(paired: Paired, floors: Mapping[str, float], resampler: Resampler) -> Figure | NotMeasured:
    """Student / teacher; its floors are what the measure's floors have of the teacher's."""
    teacher, student = (paired.values[name] for name in ("teacher", "student"))
    teacher_B, student_B = (paired.resampled[name] for name in ("teacher", "student"))
    if teacher <= 0 or teacher_B.min() <= 0:
        return NOTHING_RIGHT
    kept, value = {name: floor / teacher for name, floor in floors.items()}, student / teacher
    return Figure(
        value=value, interval=resampler.interval(value, student_B / teacher_B, low=0), floors=kept, n=paired.n
    )


def way_come(paired: Paired, resampler: Resampler) -> Figure | NotMeasured:
    """(student - untrained) / (teacher - untrained): 0 is an untrained network, 1 the teacher."""
    teacher, student, untrained = (paired.values[name] for name in ("teacher", "student", "untrained"))
    if teacher <= untrained:
        return NO_WAY
    value = (student - untrained) / (teacher - untrained)
    teacher_B, student_B, untrained_B = (paired.resampled[name] for name in ("teacher", "student", "untrained"))
    if (teacher_B <= untrained_B).any():
        return Figure(value=value, interval=UNSURE_WAY, n=paired.n)
    found_B = (student_B - untrained_B) / (teacher_B - untrained_B)
    return Figure(value=value, interval=resampler.interval(value, found_B), n=paired.n)
