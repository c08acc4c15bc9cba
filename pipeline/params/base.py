"""What every section of params.yaml is made of: frozen, and no unknown keys."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from pipeline.base.types import Frozen, Json
from pipeline.params.text import plain

OnError = Literal["refuse", "fail"]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def _arguments(value: object) -> object:
    """`off` and its like as false; a number that no call can take is refused with its name."""
    found = plain(value)
    for key, told in found.items() if isinstance(found, dict) else ():
        for number in told if isinstance(told, list) else [told]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{key} is {number}: no network is made of that")
    return found


Keywords = Annotated[dict[str, Json], BeforeValidator(_arguments)]
"""Arguments of a call that Histill does not know."""


class Section(Frozen):
    """A section: frozen, unknown keys, NaN and infinity refused, each field explained by the text under it.

    `page.py` reads those texts: pydantic would parse the source of every section in each command that imports it.
    """

    model_config = ConfigDict(allow_inf_nan=False)


MISSING = ("na", "n/a", "#n/a", "nan", "none", "null", "<na>")
"""Texts, in any case, that mean no value, as R, pandas and spreadsheets write it; an empty cell is one in any event."""
