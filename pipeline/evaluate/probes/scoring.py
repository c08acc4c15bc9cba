"""Accuracy of several models' answers about the same tiles, with one set of resamples for all of them.

Balanced accuracy is the mean of the recalls of the classes present in the held-out tiles. `right_N` may be a share (of
episodes in which a tile was right): the figure is then the mean over episodes.
Shapes: N tiles, K classes, B resamples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.base.figures import Figure, NotMeasured
from pipeline.base.intervals import Resampler
from pipeline.base.types import Floats
from pipeline.evaluate.split_figures import Accuracies, Accuracy

NOTHING_RIGHT = NotMeasured(why="in some resamples the teacher itself gets nothing right")


class Scorer:
    """Scores predictions against labels; the floor `majority` answers with the most frequent of the train labels."""

    def __init__(self, labels: Sequence[str], train_labels: Sequence[str], resampler: Resampler) -> None:
        self.label_N = np.asarray(labels, dtype=np.str_)
        self.resampler = resampler
        self.classes, class_N = np.unique(self.label_N, return_inverse=True)
        self.is_class_NK = class_N[:, None] == np.arange(len(self.classes))[None, :]
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
        return Accuracies(
            teacher=self.accuracy(right["teacher"], floors),
            student=self.accuracy(right["student"], floors),
            untrained=self.accuracy(right["untrained"]),
            majority=self.accuracy(self._majority_N),
            retention=self._retention(right, floors),
        )

    def _retention(self, right: Mapping[str, Floats], floors: Mapping[str, float]) -> Figure | NotMeasured:
        """Student / teacher of balanced accuracy, paired; its floors are what those keep."""
        teacher, student = (self.balanced(right[name]) for name in ("teacher", "student"))
        teacher_B, student_B = (self._resampled(right[name]) for name in ("teacher", "student"))
        return share_kept((teacher, student), (teacher_B, student_B), floors, len(self.label_N), self.resampler)

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


def share_kept(
    both: tuple[float, float],
    both_B: tuple[Floats, Floats],
    floors: Mapping[str, float],
    n: int,
    resampler: Resampler,
) -> Figure | NotMeasured:
    """Student / teacher of one measure, from (teacher, student) and their values in the same resamples."""
    (teacher, student), (teacher_B, student_B) = both, both_B
    if teacher <= 0 or teacher_B.min() <= 0:
        return NOTHING_RIGHT
    kept = {name: floor / teacher for name, floor in floors.items()}
    value = student / teacher
    return Figure(value=value, interval=resampler.interval(value, student_B / teacher_B, low=0), floors=kept, n=n)
