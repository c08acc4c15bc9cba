"""One line of `histill doctor`: what was looked at, what was found, and what it means."""

from __future__ import annotations

from enum import StrEnum

from pipeline.base.types import Frozen


class Level(StrEnum):
    """What a finding does to the configured pipeline."""

    OK = "ok"
    COSTS = "costs"
    """It runs, with less than it could have."""
    STOPS = "stops"
    """It does not run."""


class Finding(Frozen):
    """`what` is a stable name (`store.locks`); `cost` and `mend` say what it costs and how to mend it, where not ok."""

    what: str
    found: str
    level: Level = Level.OK
    cost: str = ""
    mend: str = ""


def costs(what: str, found: str, cost: str, mend: str) -> Finding:
    """Of a thing that could be better."""
    return Finding(what=what, found=found, level=Level.COSTS, cost=cost, mend=mend)


def stops(what: str, found: str, cost: str, mend: str) -> Finding:
    """Of a thing without which the configured pipeline does not run."""
    return Finding(what=what, found=found, level=Level.STOPS, cost=cost, mend=mend)
