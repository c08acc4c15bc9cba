"""Bootstrap intervals: how far a figure would move with other slides.

Tiles of one slide resemble one another, so a resample draws whole slides where there are enough of them; with fewer
than `MIN_SLIDES` it draws tiles and says so, and the interval then speaks of these slides only. One resampler gives all
figures of a split the same draws: a ratio of two models is then paired, and of a model with itself exactly 1.
Shapes: N tiles, G groups, K columns, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MIN_SLIDES = 5
Floats = NDArray[np.floating[Any]]


class Resampler:
    """Draws groups with replacement, the same draws at every call."""

    def __init__(self, slide_N: Sequence[str], resamples: int, seed: int) -> None:
        names, group_N = np.unique(np.asarray(slide_N, dtype=np.str_), return_inverse=True)
        self.by: Literal["slide", "tile"] = "slide" if len(names) >= MIN_SLIDES else "tile"
        self._group_N = group_N if self.by == "slide" else np.arange(len(slide_N))
        self._groups = len(names) if self.by == "slide" else len(slide_N)
        self.resamples, self.seed = resamples, seed

    def sums(self, value_NK: Floats) -> NDArray[np.float64]:
        """Column sums of every resample, (B, K) float64."""
        group_GK = np.zeros((self._groups, value_NK.shape[1]))
        np.add.at(group_GK, self._group_N, value_NK)
        random = np.random.default_rng(self.seed)
        out_BK = np.empty((self.resamples, value_NK.shape[1]))
        for row_K in out_BK:
            drawn = random.integers(self._groups, size=self._groups)
            row_K[:] = np.bincount(drawn, minlength=self._groups) @ group_GK
        return out_BK

    def mean_interval(self, value_N: Floats) -> list[float]:
        """95 % interval of the mean over tiles."""
        sum_B2 = self.sums(np.stack([value_N, np.ones_like(value_N)], axis=1))
        return interval(sum_B2[:, 0] / sum_B2[:, 1])


def interval(value_B: Floats) -> list[float]:
    """The 2.5th and 97.5th percentile of the resampled values."""
    low, high = np.percentile(value_B, [2.5, 97.5])
    return [float(low), float(high)]
