"""One image of a labelled data set, and what is said of a set that is not as its kind says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import EvaluationError
from pipeline.params.evaluate import DatasetParams


@dataclass(frozen=True)
class Picture:
    """One image: the file it is in (and its row, in an HDF5 file), and what is known of it."""

    name: str
    path: Path
    label: str | None = None
    group: str | None = None
    index: int | None = None
    mask: Path | None = None


def problem(params: DatasetParams, what: str, fix: str) -> EvaluationError:
    """The error that names the set."""
    return EvaluationError(what, where=f"evaluate.datasets: {params.name}", fix=fix)
