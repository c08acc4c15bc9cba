"""Intervals, all that there are: how far a figure would move with other patients or slides, or other rounds of timing.

Tiles of a patient resemble one another, so what is drawn is the patient where patients are known, else the slide, else
the image (`Units`). With few units the percentiles of a bootstrap are too narrow (a nominal 95 % covers 84 % with five
slides, 91 % with eight), so an interval is the figure plus and minus Student's t quantile times the bootstrap's
deviation (Efron & Tibshirani 1993, section 12.4), which is widened by G / (G - 1): the root of it makes it the mean's
own (section 6.5), the rest is for skewed figures.

Where one unit has most of the tiles the others say little of it, however many they are: of 20 patients one with 90 %
of the tiles, 95 % covers 80 %. So the degrees of freedom are those of the units that the figure weighs (`freedom`), and
one less than there are units only where all weigh alike. The simulations of tests/base/test_coverage.py hold the
coverage within 93 to 97.5 % from `MIN_UNITS` units and `MIN_FREEDOM` degrees on. Below that none is stated: how far the
figure moves with one unit left out is, and why.

One resampler gives all figures of a split the same draws: a ratio of two models is then paired, and of a model with
itself exactly 1. A resample holds copies, and a figure that compares tiles with one another (CKA, an effective rank)
takes a copy for structure: such figures get a jackknife, which leaves out a block of units at a time, with the same t
(chapter 11). Shapes: N tiles, G units, K columns, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from pipeline.base.figures import Interval, Method, NotMeasured, Unit
from pipeline.base.types import Floats, Rows

MIN_UNITS = 8
"""With fewer no interval is stated."""
MIN_FREEDOM = 4.0
"""With fewer degrees of freedom neither, however many units there are: what it is of is of fewer than five of them."""
MAX_BLOCKS = 20
_ALONE = 1e-9
_DRAWS = 1 << 16
"""Units that are drawn at a time."""


@dataclass(frozen=True)
class Units:
    """Of each tile the name of the unit that it belongs to, (N,), and what such a unit is called."""

    names: Sequence[str]
    unit: Unit

    def take(self, chosen: Rows | NDArray[np.bool_]) -> Units:
        """Those of some tiles."""
        return Units(np.asarray(self.names, dtype=np.str_)[chosen].tolist(), self.unit)


def freedom(group_N: Rows, weight_NK: Floats) -> float:
    """Degrees of freedom of a mean over K classes, of each of which tile n has the share `weight_NK`; one class: K = 1.

    A class whose units hold the shares p counts as g = 1 / sum(p^2) of them, and its variance, taken as 1 / g, has
    g - 1 degrees of freedom; those of the sum are Satterthwaite's (1946, Biometrics Bulletin 2, eq. 17). At most one
    less than the units count as in the figure as a whole, since units have their classes in common. 0 where a class is
    of one unit alone. Classes without a tile are left out.
    """
    held_GK = _sums(weight_NK, group_N, int(group_N.max(initial=0)) + 1)
    share_GK = held_GK[:, held_GK.sum(axis=0) > 0]
    if share_GK.size == 0:
        return 0.0
    share_GK = share_GK / share_GK.sum(axis=0)
    variance_K = np.square(share_GK).sum(axis=0)
    whole = 1 / float(np.square(share_GK.mean(axis=1)).sum()) - 1
    if variance_K.max() > 1 - _ALONE:
        return 0.0
    of_classes = float(variance_K.sum() ** 2 / (variance_K**2 / (1 / variance_K - 1)).sum())
    return min(whole, of_classes)


class Resampler:
    """Draws units with replacement, the same draws at every call; of few units it leaves out one at a time instead.

    Figures are taken to weigh all tiles alike, or with `class_NK` (of each tile its share of K classes) all classes.
    """

    def __init__(self, units: Units, resamples: int, seed: int, class_NK: Floats | None = None) -> None:
        self._groups, self.group_N = _numbered(units.names)
        self.unit, self.seed = units.unit, seed
        self._units, self._asked = units, resamples
        weight_NK = np.ones((len(self.group_N), 1)) if class_NK is None else class_NK
        self.freedom = freedom(self.group_N, weight_NK)
        self.enough = self._groups >= MIN_UNITS and self.freedom >= MIN_FREEDOM
        self.resamples = resamples if self.enough else self._groups

    @property
    def counted(self) -> tuple[int, float]:
        """How many units there are, and their degrees of freedom."""
        return self._groups, self.freedom

    def over(self, class_NK: Floats) -> Resampler:
        """The same for figures that weigh all of K classes alike."""
        return Resampler(self._units, self._asked, self.seed, class_NK)

    @cached_property
    def count_BG(self) -> NDArray[np.float32]:  # noqa: N802
        """How often each resample drew each unit."""
        if not self.enough:
            # A unit alone cannot be left out: the figure is then its own.
            return np.ones((1, 1), np.float32) if self._groups == 1 else 1 - np.eye(self._groups, dtype=np.float32)
        random, groups = np.random.default_rng(self.seed), self._groups
        count_BG = np.empty((self.resamples, groups), np.float32)
        some = max(1, _DRAWS // groups)
        for slice_BG in np.split(count_BG, range(some, self.resamples, some)):
            rows = len(slice_BG)
            cell_BG = random.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
            slice_BG[:] = np.bincount(cell_BG.ravel(), minlength=rows * groups).reshape(rows, groups)
        return count_BG

    def sums(self, value_NK: Floats) -> NDArray[np.float64]:
        """Column sums of every resample, (B, K) float64."""
        group_GK = _sums(value_NK, self.group_N, self._groups)
        # In slices, so that the counts never stand in memory as float64 as a whole.
        parts = [self.count_BG[i : i + 64].astype(np.float64) @ group_GK for i in range(0, self.resamples, 64)]
        return np.concatenate(parts)

    def interval(
        self, value: float, value_B: Floats, low: float = -np.inf, high: float = np.inf
    ) -> Interval | NotMeasured:
        """95 % interval of a figure from its values in the resamples, within what it can be; else why there is none."""
        if not self.enough:
            return _too_few(self._groups, self.freedom, self.unit, value_B)
        deviation = float(np.std(value_B)) * self._groups / (self._groups - 1)
        return _of_t(value, deviation, self.freedom, (low, high), Counted(self.unit, self._groups, "bootstrap"))

    def mean_interval(self, value_N: Floats, low: float = -np.inf, high: float = np.inf) -> Interval | NotMeasured:
        """95 % interval of the mean over tiles."""
        return self.interval(float(np.mean(value_N, dtype=np.float64)), self.means(value_N), low, high)

    def means(self, value_N: Floats) -> NDArray[np.float64]:
        """The mean over the tiles of every resample, (B,)."""
        sum_B2 = self.sums(np.stack([value_N, np.ones_like(value_N)], axis=1))
        mean_B: NDArray[np.float64] = sum_B2[:, 0] / sum_B2[:, 1]
        return mean_B

    def percentile_interval(self, value_M: Floats, tile_M: Rows, percent: float) -> Interval | NotMeasured:
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
        return self.interval(float(np.percentile(value_M, percent)), found_B)


def interval(value_B: Floats) -> list[float]:
    """The 2.5th and 97.5th percentile of the resampled values."""
    low, high = np.percentile(value_B, [2.5, 97.5])
    return [float(low), float(high)]


class Jackknife:
    """Leaves out a block at a time: a unit, or several where there are many; `class_NK` as a `Resampler` has it."""

    def __init__(self, units: Units, class_NK: Floats | None = None) -> None:
        self._units, unit_N = _numbered(units.names)
        self.unit = units.unit
        # Without the only one nothing is left.
        self.blocks = min(MAX_BLOCKS, self._units) if self._units > 1 else 0
        self.block_N: NDArray[np.int64] = unit_N * self.blocks // self._units
        """The block of each tile, (N,)."""
        weight_NK = np.ones((len(unit_N), 1)) if class_NK is None else class_NK
        self.freedom = freedom(self.block_N, weight_NK)

    def interval(
        self, value: float, without_K: Sequence[float], low: float = -np.inf, high: float = np.inf
    ) -> Interval | NotMeasured:
        """95 % interval of a figure from its values without each of the K blocks, within what it can be."""
        left = np.asarray(without_K, np.float64)
        if self._units < MIN_UNITS or self.freedom < MIN_FREEDOM:
            return _too_few(self._units, self.freedom, self.unit, left)
        # Widened as the bootstrap's, of whose deviation a jackknife's is sqrt(K / (K - 1)) times.
        deviation = float(np.sqrt(np.square(left - left.mean()).sum()))
        return _of_t(value, deviation, self.freedom, (low, high), Counted(self.unit, self._units, "jackknife"))


@dataclass(frozen=True)
class Counted:
    """What an interval was had of, and how."""

    unit: Unit
    units: int
    method: Method


def why_too_few(n: int, freedom: float, unit: Unit) -> str | None:
    """Why n units of these degrees of freedom have no interval; None where they have one."""
    if n < 2:
        return f"all of it is of one {unit}: nothing says how far it would move with others"
    if n < MIN_UNITS:
        return f"{n} {unit}s are fewer than the {MIN_UNITS} that an interval needs"
    if freedom < MIN_FREEDOM:
        few = "most of it, or of one class, is of few of them"
        return f"its {n} {unit}s count as {freedom + 1:.1f} in it, fewer than the {MIN_FREEDOM + 1:g} needed: {few}"
    return None


def _numbered(names: Sequence[str]) -> tuple[int, NDArray[np.int64]]:
    """How many different names there are, and of each tile its own one's number in their order, (N,)."""
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    return len(number), np.fromiter(map(number.__getitem__, names), np.int64, len(names))


def _sums(value_NK: Floats, group_N: Rows, groups: int) -> NDArray[np.float64]:
    """Column sums of each of G groups, (G, K); `numpy.add.at` adds in the same order and takes many times as long."""
    sum_GK = np.empty((groups, value_NK.shape[1]))
    for k, value_N in enumerate(value_NK.T):
        sum_GK[:, k] = np.bincount(group_N, weights=value_N, minlength=groups)
    return sum_GK


def _too_few(n: int, freedom: float, unit: Unit, without: Floats) -> NotMeasured:
    """Why there is no interval, and what can be said: the figure without each unit."""
    why = why_too_few(n, freedom, unit) or ""
    if n < 2:
        return NotMeasured(why=why)
    low, high = float(np.min(without)), float(np.max(without))
    return NotMeasured(why=f"{why}; without one of them it is {low:.3g} to {high:.3g}")


def _of_t(value: float, deviation: float, freedom: float, within: tuple[float, float], counted: Counted) -> Interval:
    reach = float(stdtrit(freedom, 0.975)) * deviation
    low, high = max(within[0], value - reach), min(within[1], value + reach)
    # A value may be rounded beyond what it can be.
    low, high = min(low, value), max(high, value)
    return Interval(low=low, high=high, unit=counted.unit, units=counted.units, method=counted.method)
