"""What is shown: report."""

from __future__ import annotations

from pipeline.params.base import Positive, Section


class ReportParams(Section):
    """What the page shows."""

    title: str = "Histill report"
    """Title of the page."""
    max_slides: Positive = 60
    """Slides whose pictures the page holds."""
