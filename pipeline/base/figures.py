"""What a figure is, from the room that computes it to the page that prints it.

A number alone says more than it knows. A `Figure` holds what has to stand beside it: how far it would move with other
slides, what something that knows nothing scores, and of how many it was had. What could not be had, a figure, its
interval or a whole table of them, is a `NotMeasured` in the same place, with the reason; None is what nobody asked for.

A stage's results are trees of these (`Result`), frozen, that are written as JSON and read back as they were. Figures
are rounded where they are made, so that the tree in memory, the file and the page say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipeline.base.files import six_digits

Unit = Literal["patient", "slide", "group", "image", "round", "seed"]
"""What an interval draws or leaves out: what is independent of its like."""
Method = Literal["bootstrap", "jackknife", "t"]
"""Student's t times the deviation over resampled units (bootstrap), over blocks left out (jackknife), of seeds (t)."""


def _rounded(value: float) -> float:
    rounded: float = six_digits(value)
    return rounded


Number = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_rounded)]
"""A finite number of six significant digits: readable, and differences of files stay small."""


class Result(BaseModel):
    """Base of all that a stage finds: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    measured: ClassVar[bool] = True


class NotMeasured(Result):
    """Stands where a result would, and says why it could not be had."""

    measured: ClassVar[bool] = False
    why: str


class Interval(Result):
    """95 % interval from `low` to `high`: how far a figure would move with other units, of which there were `units`."""

    low: Number
    high: Number
    unit: Unit
    units: int
    method: Method


class Figure(Result):
    """One number, and what a reader needs to judge it.

    `n` is of how many it was had: tiles, unless what holds it says otherwise. `floors` are what the same measure gives
    for something that knows nothing, by name: `untrained`, `majority`, `constant`, `chance`. An interval that is None
    was not asked for.
    """

    value: Number
    interval: Interval | NotMeasured | None = None
    floors: Mapping[str, Number] = {}
    n: int

    @property
    def span(self) -> Interval | None:
        """The interval where there is one."""
        return self.interval if isinstance(self.interval, Interval) else None

    @property
    def unit(self) -> Unit | None:
        """What the interval draws or leaves out."""
        return self.span.unit if self.span else None
