"""What JSON can hold, as a type: recipes, and the attributes of arrays, are made of nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from typing_extensions import TypeAliasType

Json = TypeAliasType("Json", "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None")
"""A value of a JSON file."""
