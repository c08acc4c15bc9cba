"""Who runs when and for how long: one contender at a time is in memory, round after round, and what that will cost.

In a round every contender is started anew, has a turn with each batch size, from the smallest on, and ends: nobody's
figures are of a machine that holds another's weights, and what else the machine does meets all alike. A turn is an
eighth of the time of a cell (one model in one engine with one batch size), one pass at least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.base.intervals import MIN_UNITS
from pipeline.base.progress import console, seconds_text, track
from pipeline.benchmark.contender import Contender
from pipeline.benchmark.messages import WARM_UP
from pipeline.params.benchmark import BenchmarkParams

ROUNDS = MIN_UNITS
"""As many as an interval needs."""
MAKING_S = 60.0
"""An engine that takes longer to make than this (a compiler's) has one round, and its ratio no interval."""


def rounds_of(contender: Contender) -> int:
    """How many rounds it has."""
    return 1 if contender.hello is not None and contender.hello.ready_s > MAKING_S else ROUNDS


def turn_s(contender: Contender, params: BenchmarkParams) -> float:
    """Seconds of a turn: its share of the time of a cell."""
    return params.seconds / rounds_of(contender)


def planned_turn_s(pass_s: float, seconds: float) -> float:
    """Seconds that a turn of `seconds` takes whose passes take `pass_s`, warming up as well."""
    warm_up = 1 if pass_s >= seconds else WARM_UP
    return (warm_up + max(1, math.ceil(seconds / pass_s))) * pass_s


def planned_s(contender: Contender, params: BenchmarkParams) -> float:
    """Seconds that a round of a contender takes, as fast as it was with the images of the gate."""
    hello = contender.hello
    if hello is None or contender.why:
        return 0.0
    own_s = turn_s(contender, params)
    return hello.ready_s + sum(planned_turn_s(b * hello.image_s, own_s) for b in set(params.batch_sizes))


def announce(contenders: Sequence[Contender], params: BenchmarkParams) -> None:
    """Print what all rounds will cost, before they start."""
    running = [contender for contender in contenders if not contender.why]
    cost_s = sum(rounds_of(contender) * planned_s(contender, params) for contender in running)
    console.print(
        f"benchmark: {len(running)} models in engines, one at a time, {len(set(params.batch_sizes))} batch sizes, "
        f"{ROUNDS} rounds: about {seconds_text(cost_s)}",
        soft_wrap=True,
    )


def take_rounds(contenders: Sequence[Contender], params: BenchmarkParams) -> None:
    """Time all that is still in.

    What was measured of a contender is printed after its first turn: who ends a long run has that much.
    """
    sizes = sorted(set(params.batch_sizes))
    due = [(i, contender) for i in range(ROUNDS) for contender in contenders if i < rounds_of(contender)]
    whole_s = sum(planned_s(contender, params) for _, contender in due)
    with track("benchmark", round(whole_s, 1), "s planned") as advance:
        for i, contender in due:
            cost_s = planned_s(contender, params)
            if not contender.why:
                contender.round(sizes, turn_s(contender, params))
            if i == 0 and contender.rows:
                shown = ", ".join(f"{row.latency_ms_p50:.3g} ms for a batch of {row.batch}" for row in contender.rows)
                console.print(f"benchmark: {contender.cell.name}: {shown}", soft_wrap=True)
            advance(cost_s, contender.cell.name)
