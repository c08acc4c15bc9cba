"""How much faster the student is than the teacher, with an interval from the rounds of the run that timed both.

In each round every model has one turn, soon after one another, so that what else the machine did in a round met both:
a round's ratio is of its own medians, and the speed-up their geometric mean. Its interval is Student's over rounds, in
logarithms (base/intervals.py, a jackknife of the mean). It covers what one run saw: not another machine, nor this one
on another day.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.base.figures import Figure, Interval, NotMeasured
from pipeline.base.intervals import Jackknife, Units

Rounds = Mapping[int, Sequence[Sequence[float]]]
"""{batch size: of each round the seconds of its passes}."""


def speedup(teacher: Rounds, student: Rounds) -> Figure:
    """Best throughput, student over teacher, each at its best batch; `n` are the rounds that both had."""
    best = best_batch(teacher), best_batch(student)
    both = zip(teacher[best[0]], student[best[1]], strict=False)
    log_R = np.log([best[1] / best[0] * np.median(slow) / np.median(fast) for slow, fast in both])
    return geometric(log_R)


def geometric(log_R: NDArray[np.float64], unit: float = 1.0) -> Figure:
    """`unit` times the geometric mean of R rounds, given as logarithms."""
    n, mean = len(log_R), float(log_R.mean())
    rounds = Units([f"{i:03d}" for i in range(n)], "round")
    without = [float(np.delete(log_R, i).mean()) for i in range(n)] if n > 1 else []
    found = Jackknife(rounds).interval(mean, without) if without else NotMeasured(why="timed in one round")
    if isinstance(found, Interval):
        # Ends of logarithms are rounded, and a value may lie a rounding beyond them.
        ends = min(found.low, mean), max(found.high, mean)
        low, high = (unit * math.exp(end) for end in ends)
        found = Interval.model_validate(found.model_dump() | {"low": low, "high": high})
    elif n > 1:
        found = NotMeasured(why=f"{n} rounds are too few for an interval")
    return Figure(value=unit * math.exp(mean), interval=found, n=n)


def best_batch(rounds: Rounds) -> int:
    """The batch size of the highest throughput at the median; the smallest of equals."""
    return max(sorted(rounds), key=lambda batch: batch / float(np.median(np.concatenate(rounds[batch]))))
