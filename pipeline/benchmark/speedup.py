"""How much faster the student is than the teacher, with an interval from the rounds of the run that timed both.

In each round every model has one turn, so that what else the machine did in a round met both: rounds are resampled,
the same for both models where their best batch sizes are one, which makes the ratio paired. Where the best batch sizes
differ, the models had their turns at other times, and each has draws of its own. The interval covers what one run saw:
not another machine, nor this one on another day. Rounds are few (about ten), which leaves it a little narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.intervals import interval, redrawn

RESAMPLES, SEED = 1000, 0
MIN_ROUNDS = 5
"""With fewer nothing is said of how sure the ratio is: an interval of two rounds looks narrow and means nothing."""
Rounds = Mapping[int, Sequence[Sequence[float]]]
"""{batch size: of each round the seconds of its passes}."""


def speedup(teacher: Rounds, student: Rounds) -> dict[str, Any]:
    """{`value`: best throughput, student over teacher, `interval`: its 95 % interval, null under `MIN_ROUNDS` rounds}.

    Throughput is at the median pass of all rounds, as in the table of latencies; each model's batch size is its best.
    """
    best = {"teacher": best_batch(teacher), "student": best_batch(student)}
    slow, fast = ([np.asarray(turn) for turn in rounds[batch]] for rounds, batch in
                  ((teacher, best["teacher"]), (student, best["student"])))  # fmt: skip
    batches = best["student"] / best["teacher"]
    value = batches * _median(slow, range(len(slow))) / _median(fast, range(len(fast)))
    if min(len(slow), len(fast)) < MIN_ROUNDS:
        return {"value": value, "interval": None}
    together = min(len(slow), len(fast)) if batches == 1 else 0
    # A model that needed more rounds had the last of them alone.
    drawn = redrawn((len(slow), len(fast)), together, RESAMPLES, SEED)
    ratios = [batches * _median(slow, of_slow) / _median(fast, of_fast) for of_slow, of_fast in drawn]
    return {"value": value, "interval": interval(np.array(ratios))}


def best_batch(rounds: Rounds) -> int:
    """The batch size of the highest throughput at the median; the smallest of equals."""
    return max(sorted(rounds), key=lambda batch: batch / float(np.median(np.concatenate(rounds[batch]))))


def _median(turns: Sequence[NDArray[np.float64]], drawn: Any) -> float:
    """Of the passes of the drawn rounds."""
    return float(np.median(np.concatenate([turns[i] for i in drawn])))
