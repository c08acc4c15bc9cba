"""What no file is written of, by name: left_out.csv in the output folder, kept up by every process that writes there.

A slide that is made later is taken out of it; where nothing is left out, there is no such file.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.embed.asked import LeftOut
from pipeline.embed.shared_table import SharedTable

FILE = "left_out.csv"
COLUMNS = ("slide", "reason", "what to do")


def leave_out(out: Path, slide: LeftOut) -> None:
    """Add a slide, in place of what was said of it before."""
    row = {"slide": slide.slide, "reason": slide.reason, "what to do": slide.fix}
    SharedTable(out / FILE, COLUMNS).put(row)


def take_back(out: Path, slide: str) -> None:
    """Of a slide that is made now."""
    SharedTable(out / FILE, COLUMNS).drop(slide)
