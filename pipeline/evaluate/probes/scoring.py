"""Balanced accuracy of several models' answers about the same tiles, with one set of resamples for all of them.

Balanced accuracy is the mean of the recalls of the classes present in the held-out tiles. `right_N` may be a share (of
episodes in which a tile was right): the figure is then the mean over episodes.
Shapes: N tiles, K classes, B resamples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.intervals import Resampler, interval
from pipeline.base.types import Floats


class Scorer:
    """Scores predictions against labels; retention is student / teacher, with its own paired interval."""

    def __init__(self, labels: Sequence[str], resampler: Resampler) -> None:
        self.label_N = np.asarray(labels, dtype=np.str_)
        self.resampler = resampler
        self.classes, class_N = np.unique(self.label_N, return_inverse=True)
        self.is_class_NK = class_N[:, None] == np.arange(len(self.classes))[None, :]
        self._total_BK = resampler.sums(self.is_class_NK.astype(np.float64))

    def right(self, found_N: NDArray[Any]) -> NDArray[np.float64]:
        """1 where the predicted label is the tile's, else 0."""
        right_N: NDArray[np.float64] = (found_N == self.label_N).astype(np.float64)
        return right_N

    def table(self, right: Mapping[str, Floats]) -> dict[str, Any]:
        """{model: figures} and the student's `retention` {value, interval}, or None where the teacher gets nothing."""
        figures: dict[str, Any] = {name: self.figures(right_N) for name, right_N in right.items()}
        teacher, student = figures["teacher"]["balanced_accuracy"], figures["student"]["balanced_accuracy"]
        teacher_B, student_B = self._resampled(right["teacher"]), self._resampled(right["student"])
        if teacher > 0 and teacher_B.min() > 0:
            figures["retention"] = {"value": student / teacher, "interval": interval(student_B / teacher_B)}
        else:
            figures["retention"] = None
        return figures

    def difference(self, right_N: Floats, other_N: Floats) -> dict[str, Any]:
        """Balanced accuracy of the first minus that of the other, {value, interval}; paired."""
        both = [self.figures(right)["balanced_accuracy"] for right in (right_N, other_N)]
        between = interval(self._resampled(right_N) - self._resampled(other_N))
        return {"value": both[0] - both[1], "interval": between}

    def figures(self, right_N: Floats) -> dict[str, Any]:
        """Balanced accuracy with its interval, and plain accuracy."""
        recall_K = (self.is_class_NK * right_N[:, None]).sum(axis=0) / self.is_class_NK.sum(axis=0)
        return {
            "balanced_accuracy": float(recall_K.mean()),
            "interval": interval(self._resampled(right_N)),
            "accuracy": float(right_N.mean()),
        }

    def majority(self, train_labels: Sequence[str]) -> dict[str, Any]:
        """The figures of answering every tile with the most frequent train label: a floor that takes no features."""
        most_frequent = Counter(train_labels).most_common(1)[0][0]
        return self.figures(self.right(np.full(len(self.label_N), most_frequent)))

    def _resampled(self, right_N: Floats) -> NDArray[np.float64]:
        """Balanced accuracy of every resample, over the classes that it drew."""
        recall_BK = self.resampler.sums(self.is_class_NK * right_N[:, None]) / np.maximum(self._total_BK, 1)
        drawn_BK = self._total_BK > 0
        balanced_B: NDArray[np.float64] = (recall_BK * drawn_BK).sum(axis=1) / drawn_BK.sum(axis=1)
        return balanced_B
