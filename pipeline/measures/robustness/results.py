"""How steady two models are, as a type. Without torch, since the report reads it."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.base.figures import Figure, Result


class Steadiness(Result):
    """Agreement of each model with itself under one change, and student minus teacher."""

    teacher: Figure
    student: Figure
    difference: Figure


class Robustness(Result):
    """By change; see robustness.py."""

    changes: Mapping[str, Steadiness]

    @property
    def n(self) -> int:
        """Tiles that were changed."""
        return next(iter(self.changes.values())).student.n

    @property
    def any(self) -> Figure:
        """One of the figures, all of which have their intervals over the same units."""
        return next(iter(self.changes.values())).student
