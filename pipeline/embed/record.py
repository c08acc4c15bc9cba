"""What embedding slides took, kept in a project beside the stages' metrics, for `histill plan --after`."""

from __future__ import annotations

from pathlib import Path

from pipeline.base.files import write_json
from pipeline.embed.job import Outcome

FILE = Path("metrics/embed.json")


def keep(outcome: Outcome) -> None:
    """Write it, where this is a project and something was made; elsewhere nothing is written but the results."""
    if Path("params.yaml").exists() and outcome.made:
        told = {"slides": outcome.made, "tiles": outcome.tiles, "nbytes": outcome.nbytes, "seconds": outcome.seconds}
        write_json(FILE, told)
