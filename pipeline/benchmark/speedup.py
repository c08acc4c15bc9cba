"""How much faster the student is than the teacher, with an interval from the rounds of the run that timed both.

In each round every model has one turn, so that what else the machine did in a round met both: rounds are resampled,
the same for both models where their best batch sizes are one, which makes the ratio paired. Where the best batch sizes
differ, the models had their turns at other times, and each has draws of its own. The interval covers what one run saw:
not another machine, nor this one on another day. Rounds are few (about ten), which leaves it a little narrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.base.figures import Figure, Interval, NotMeasured
from pipeline.base.intervals import interval, redrawn

RESAMPLES, SEED = 1000, 0
MIN_ROUNDS = 5
"""With fewer nothing is said of how sure the ratio is: an interval of two rounds looks narrow and means nothing."""
Rounds = Mapping[int, Sequence[Sequence[float]]]
"""{batch size: of each round the seconds of its passes}."""


def speedup(teacher: Rounds, student: Rounds) -> Figure:
    """Best throughput, student over teacher, `n` the rounds; no interval under `MIN_ROUNDS` of them.

    Throughput is at the median pass of all rounds, as in the table of latencies; each model's batch size is its best.
    """
    best = {"teacher": best_batch(teacher), "student": best_batch(student)}
    slow, fast = ([np.asarray(turn) for turn in rounds[batch]] for rounds, batch in
                  ((teacher, best["teacher"]), (student, best["student"])))  # fmt: skip
    batches = best["student"] / best["teacher"]
    value = batches * _median(slow, range(len(slow))) / _median(fast, range(len(fast)))
    n = min(len(slow), len(fast))
    if n < MIN_ROUNDS:
        why = f"{n} rounds (at least {MIN_ROUNDS}; benchmark.seconds)"
        return Figure(value=value, interval=NotMeasured(why=why), n=n)
    # A model that needed more rounds had the last of them alone.
    drawn = redrawn((len(slow), len(fast)), n if batches == 1 else 0, RESAMPLES, SEED)
    ratios = [batches * _median(slow, of_slow) / _median(fast, of_fast) for of_slow, of_fast in drawn]
    low, high = interval(np.array(ratios))
    return Figure(value=value, interval=Interval(low=low, high=high, unit="round", units=n, method="bootstrap"), n=n)


def best_batch(rounds: Rounds) -> int:
    """The batch size of the highest throughput at the median; the smallest of equals."""
    return max(sorted(rounds), key=lambda batch: batch / float(np.median(np.concatenate(rounds[batch]))))


def _median(turns: Sequence[NDArray[np.float64]], drawn: Iterable[int]) -> float:
    """Of the passes of the drawn rounds."""
    return float(np.median(np.concatenate([turns[i] for i in drawn])))
