"""What every section of params.yaml is made of: frozen, and no unknown keys."""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args, get_origin

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from pipeline.base.types import Frozen, Json
from pipeline.params.text import plain

OnError = Literal["refuse", "fail"]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
_MOST = 2**53
"""Beyond it no number of anything, and none that a file or a library counts in."""


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

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_written_so(cls, told: object, info: ValidationInfo) -> object:
        """`true` is no 1: pydantic takes it for one."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        takes_truth = annotation is bool or bool in get_args(annotation) or get_origin(annotation) is Literal
        for one in told if isinstance(told, list | tuple) else [told]:
            if isinstance(one, bool) and not takes_truth:
                raise ValueError(f"{'true' if one else 'false'} is not what it takes")
            if isinstance(one, int) and abs(one) > _MOST:
                raise ValueError(f"{one} is too large")
        return told


MISSING = ("na", "n/a", "#n/a", "nan", "none", "null", "<na>")
"""Texts, in any case, that mean no value, as R, pandas and spreadsheets write it; an empty cell is one in any event."""
