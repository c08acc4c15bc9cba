"""Wall and CPU seconds. A ratio is stated in both: other work on a machine spoils the first much more than the second.

CPU seconds are user and system time of all threads of this process and of the children that it has waited for.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """Seconds that something took."""

    wall_s: float
    cpu_s: float


def clock() -> Spent:
    """Both clocks as they stand; only differences mean anything."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Spent(time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime)


def since(began: Spent) -> Spent:
    """What was spent since the clocks stood at `began`."""
    ended = clock()
    return Spent(ended.wall_s - began.wall_s, ended.cpu_s - began.cpu_s)


def spent(work: Callable[[], object]) -> Spent:
    """What one call takes."""
    began = clock()
    work()
    return since(began)


def turns(contenders: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, list[Spent]]:
    """What each contender took in each round; they take turns, in another order each round."""
    names, taken = list(contenders), {name: list[Spent]() for name in contenders}
    for number in range(warm_up + rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            one = spent(contenders[name])
            if number >= warm_up:
                taken[name].append(one)
    return taken


def median(taken: Sequence[Spent]) -> Spent:
    """The median of each clock."""
    return Spent(statistics.median(one.wall_s for one in taken), statistics.median(one.cpu_s for one in taken))


def ratios(slower: Sequence[Spent], faster: Sequence[Spent]) -> dict[str, float]:
    """{wall, cpu}: median over rounds of how many times as long the first takes as the second."""
    pairs = list(zip(slower, faster, strict=True))
    told = {
        "wall": statistics.median(a.wall_s / b.wall_s for a, b in pairs),
        "cpu": statistics.median(a.cpu_s / b.cpu_s for a, b in pairs),
    }
    return {name: round(value, 3) for name, value in told.items()}
