"""Bootstrap intervals, all that there are: how far a figure would move with other slides, or other rounds of timing.

Tiles of one slide resemble one another, so a resample draws whole slides where there are enough of them; with fewer
than `MIN_SLIDES` it draws tiles and says so, and the interval then speaks of these slides only. One resampler gives all
figures of a split the same draws: a ratio of two models is then paired, and of a model with itself exactly 1.

A resample holds copies, and a figure that compares tiles with one another (CKA, an effective rank) takes a copy for
structure: its bootstrap lies beside its value. Such figures get a jackknife instead, which leaves out a block of slides
(or of neighbouring tiles) at a time (Efron & Tibshirani 1993, chapter 11).
Shapes: N tiles, G groups, K columns, B resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.base.figures import Interval, Unit
from pipeline.base.types import Floats, Rows

MIN_SLIDES = 5
MAX_BLOCKS = 20
NORMAL_95 = 1.96


class Resampler:
    """Draws groups with replacement, the same draws at every call."""

    def __init__(self, slide_N: Sequence[str], resamples: int, seed: int, unit: Unit | None = None) -> None:
        """`unit` is what a group is called where each row is a group of its own and no tile of a slide."""
        names, group_N = np.unique(np.asarray(slide_N, dtype=np.str_), return_inverse=True)
        enough = len(names) >= MIN_SLIDES
        self.unit: Unit = unit or ("slide" if enough else "tile")
        self.group_N = group_N if enough else np.arange(len(slide_N))
        self._groups = len(names) if enough else len(slide_N)
        self.resamples, self.seed = resamples, seed

    @cached_property
    def count_BG(self) -> NDArray[np.float32]:  # noqa: N802
        """How often each resample drew each group."""
        random = np.random.default_rng(self.seed)
        count_BG = np.empty((self.resamples, self._groups), np.float32)
        for row_G in count_BG:
            row_G[:] = np.bincount(random.integers(self._groups, size=self._groups), minlength=self._groups)
        return count_BG

    def sums(self, value_NK: Floats) -> NDArray[np.float64]:
        """Column sums of every resample, (B, K) float64."""
        group_GK = np.zeros((self._groups, value_NK.shape[1]))
        np.add.at(group_GK, self.group_N, value_NK)
        # In slices, so that the counts never stand in memory as float64 as a whole.
        parts = [self.count_BG[i : i + 64].astype(np.float64) @ group_GK for i in range(0, self.resamples, 64)]
        return np.concatenate(parts)

    def interval(self, value_B: Floats) -> Interval:
        """95 % interval of a figure from its values in the resamples."""
        low, high = interval(value_B)
        return Interval(low=low, high=high, unit=self.unit, units=self._groups, method="bootstrap")

    def mean_interval(self, value_N: Floats) -> Interval:
        """95 % interval of the mean over tiles."""
        return self.interval(self.means(value_N))

    def means(self, value_N: Floats) -> NDArray[np.float64]:
        """The mean over the tiles of every resample, (B,)."""
        sum_B2 = self.sums(np.stack([value_N, np.ones_like(value_N)], axis=1))
        mean_B: NDArray[np.float64] = sum_B2[:, 0] / sum_B2[:, 1]
        return mean_B

    def percentile_interval(self, value_M: Floats, tile_M: Rows, percent: float) -> Interval:
        """95 % interval of a percentile of M values, each of which belongs to the tile `tile_M` names."""
        order_M = np.argsort(value_M, kind="stable")
        sorted_M, group_M = value_M[order_M], self.group_N[tile_M[order_M]]
        found_B = np.empty(self.resamples)
        for b, count_G in enumerate(self.count_BG):
            cumulative_M = np.cumsum(count_G[group_M], dtype=np.float64)
            # As numpy would interpolate it in the list with every copy written out.
            place = percent / 100 * (cumulative_M[-1] - 1)
            low, high = np.searchsorted(cumulative_M, [np.floor(place), np.ceil(place)], side="right")
            found_B[b] = sorted_M[low] + (place % 1) * (sorted_M[high] - sorted_M[low])
        return self.interval(found_B)


def redrawn(
    lengths: Sequence[int], together: int, resamples: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Of each resample the positions drawn in every series, as many as it is long.

    The first `together` positions are drawn once for all series, which pairs them; what is left of a longer series is
    drawn from itself. With 0 every series has draws of its own.
    """
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        both = random.integers(together, size=together) if together else np.empty(0, np.int64)
        yield tuple(
            np.append(both, random.integers(together, length, length - together)) if length > together else both
            for length in lengths
        )


def interval(value_B: Floats) -> list[float]:
    """The 2.5th and 97.5th percentile of the resampled values."""
    low, high = np.percentile(value_B, [2.5, 97.5])
    return [float(low), float(high)]


class Jackknife:
    """Leaves out a block at a time: a slide, or several, where there are enough, else neighbouring tiles."""

    def __init__(self, slide_N: Sequence[str]) -> None:
        names, slide = np.unique(np.asarray(slide_N, dtype=np.str_), return_inverse=True)
        self.unit: Unit = "slide" if len(names) >= MIN_SLIDES else "tile"
        unit_N = slide if self.unit == "slide" else np.arange(len(slide_N))
        self._units = int(unit_N.max()) + 1
        self.blocks = min(MAX_BLOCKS, self._units)
        self.block_N: NDArray[np.int64] = unit_N * self.blocks // self._units
        """The block of each tile, (N,)."""

    def interval(
        self, value: float, without_K: Sequence[float], low: float = -np.inf, high: float = np.inf
    ) -> Interval:
        """95 % interval of a figure from its values without each of the K blocks, within what it can be."""
        left = np.asarray(without_K, np.float64)
        deviation = float(np.sqrt((len(left) - 1) / len(left) * np.square(left - left.mean()).sum()))
        ends = max(low, value - NORMAL_95 * deviation), min(high, value + NORMAL_95 * deviation)
        return Interval(low=ends[0], high=ends[1], unit=self.unit, units=self._units, method="jackknife")
