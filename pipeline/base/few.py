"""The first of many, and how many more: a message about ten thousand slides stays one that can be read."""

from __future__ import annotations

from collections.abc import Sequence


def some(names: Sequence[str], most: int, between: str = ", ") -> str:
    """`a, b and 3 more`: the first `most` of them, and how many are left."""
    left = len(names) - most
    return between.join(names[:most]) + (f" and {left} more" if left > 0 else "")


def lines(found: Sequence[str], most: int, rest: str = "more") -> list[str]:
    """The first `most` of them; where there are others, a last one: `and 3 more`, with `rest` in place of `more`."""
    left = len(found) - most
    return [*found[:most], *([f"and {left} {rest}"] if left > 0 else [])]
