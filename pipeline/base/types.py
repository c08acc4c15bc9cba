"""Types that every room speaks in: what JSON can hold, a recipe, an array whose type a file says, a frozen model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeAliasType

Json = TypeAliasType("Json", "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None")
"""A value of a JSON file."""
Recipe: TypeAlias = Mapping[str, Json]
"""All that a result's bytes depend on, as it is hashed."""
Array: TypeAlias = NDArray[Any]
"""Of a type that is known when it runs: a file or an argument says it."""
Rows: TypeAlias = NDArray[np.integer]
"""Places in an array."""
Floats: TypeAlias = NDArray[np.floating]
"""Of any precision."""


class Frozen(BaseModel):
    """Frozen, and with no field but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")
