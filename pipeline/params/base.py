"""What every section of params.yaml is made of: frozen, and no unknown keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

OnError = Literal["refuse", "fail"]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Frozen(BaseModel):
    """A section: frozen, unknown keys, NaN and infinity refused, each field explained by the text under it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


MISSING = ("na", "n/a", "#n/a", "nan", "none", "null", "<na>")
"""Texts, in any case, that mean no value, as R, pandas and spreadsheets write it; an empty cell is one in any event."""
