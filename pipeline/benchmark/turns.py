"""Who runs when and for how long: all contenders take turns within a batch size; what that will cost is said before.

In a turn a model runs for a tenth of the time of a cell (one model in one engine with one batch size), one pass at
least. A cell is done when it has had its time in `TURNS` turns; one whose passes are so slow that this would take
`PATIENCE` times its time gets fewer turns, and one whose single pass takes that long has one pass and one to warm up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pipeline.base.progress import console, seconds_text, track
from pipeline.benchmark.contender import Contender
from pipeline.benchmark.messages import WARM_UP, Memory
from pipeline.benchmark.results import Timing
from pipeline.params.benchmark import BenchmarkParams

PATIENCE = 20
"""A cell that has had so many times its time goes without the rest of its turns (a ViT-L on a laptop)."""
TURNS = 10
"""Turns at least in which a cell has its time, of a pass at least."""
P99_REPEATS = 100


def cell_s(pass_s: float, seconds: float) -> float:
    """Seconds that a cell takes whose passes take `pass_s` and whose time is `seconds`."""
    if pass_s >= PATIENCE * seconds:
        return 2 * pass_s
    a_turn = math.ceil(seconds / TURNS / pass_s) * pass_s
    turns = max(math.ceil(seconds / a_turn), min(TURNS, math.ceil(PATIENCE * seconds / a_turn)))
    return WARM_UP * pass_s + turns * a_turn


def planned_s(contenders: Sequence[Contender], params: BenchmarkParams) -> dict[int, float]:
    """{batch size: seconds that all contenders will take with it}, as fast as each was with the images of the gate."""
    return {
        batch: sum(cell_s(batch * c.hello.image_s, params.seconds) for c in contenders if c.hello and not c.why)
        for batch in sorted(set(params.batch_sizes))
    }


def announce(contenders: Sequence[Contender], params: BenchmarkParams) -> None:
    """Print what the whole table will cost, before it starts."""
    planned = planned_s(contenders, params)
    running, last = sum(not contender.why for contender in contenders), max(planned)
    share = f", {seconds_text(planned[last])} of them for batches of {last}" if len(planned) > 1 else ""
    console.print(
        f"benchmark: {running} models in engines, {len(planned)} batch sizes: about "
        f"{seconds_text(sum(planned.values()))}{share}, compiling not counted",
        soft_wrap=True,
    )


def take_turns(contenders: Sequence[Contender], params: BenchmarkParams) -> None:
    """Fill the rows of all that is still in, from the smallest batch size on, so that memory only grows.

    What was measured of a batch size is printed at once: who ends a long run has that much.
    """
    planned = planned_s(contenders, params)
    with track("benchmark", round(sum(planned.values()), 1), "s planned") as advance:
        for batch, cost_s in planned.items():
            for contender in contenders:
                if not contender.why:
                    contender.load(batch, PATIENCE * params.seconds)
            waiting = [contender for contender in contenders if not contender.why]
            while waiting:
                for contender in waiting:
                    contender.turn(params.seconds / TURNS)
                waiting = [c for c in waiting if not c.why and not _has_enough(c, params.seconds)]
            for contender in contenders:
                taken = None if contender.why else contender.memory()
                if taken is not None:
                    contender.finish(_row(batch, contender.seconds, contender.joules, taken))
            _tell(batch, contenders)
            advance(cost_s, f"batch {batch}")


def _tell(batch: int, contenders: Sequence[Contender]) -> None:
    """Print the medians of a batch size."""
    found = "; ".join(
        f"{contender.cell.name} {contender.rows[-1].latency_ms_p50:.3g} ms"
        for contender in contenders
        if contender.rows and contender.rows[-1].batch == batch
    )
    console.print(f"benchmark: batch {batch}: {found}", soft_wrap=True)


def _has_enough(contender: Contender, seconds: float) -> bool:
    spent = sum(contender.seconds)
    return spent >= seconds and (len(contender.turns) >= TURNS or spent >= PATIENCE * seconds)


def _row(batch: int, seconds: Sequence[float], joules: Sequence[float | None], memory: Memory) -> Timing:
    """One line of the latency table; throughput is at the median, which a moment's interruption does not move."""
    p50, p90, p99 = np.percentile(seconds, [50, 90, 99])
    spent = [value for value in joules if value is not None]
    measured = len(spent) == len(joules)
    return Timing(
        batch=batch,
        latency_ms_p50=1e3 * float(p50),
        latency_ms_p90=1e3 * float(p90),
        latency_ms_p99=1e3 * float(p99) if len(seconds) >= P99_REPEATS else None,
        tiles_per_s=batch / float(p50),
        joules_per_tile=sum(spent) / (batch * len(seconds)) if measured else None,
        memory_mb=memory.own_mb,
        process_mb=memory.process_mb,
        repeats=len(seconds),
    )
