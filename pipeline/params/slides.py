"""What is read: the slide table."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.params.base import MISSING, Fraction, OnError, Section


class SlidesParams(Section):
    """Which slides, and how strict to be about them."""

    table: str = "slides.csv"
    """The slide table; relative to the project, and its own paths relative to it."""
    on_error: OnError = "refuse"
    """refuse goes on without a bad slide and lists it; fail tries all, then ends with the first one's reason."""
    test_fraction: Fraction = 0.2
    """Share of patients (or slides) held out where the table has no `split`."""
    mpp_from_objective: bool = False
    """Take 10 / objective power as um per pixel (20x: 0.5) where neither the slide nor the table says; a guess."""
    missing: tuple[str, ...] = MISSING
    """Texts in the label column that mean no label, in any case; of mpp, split and patient they always mean none."""
    fetch_gb: Annotated[float, Field(gt=0)] = 200
    """Of slides whose path is a URL, so much is kept at a time, beside the store (10^9 bytes)."""
    demo_px: Annotated[int, Field(ge=512, le=16384)] = 2560
    """Side of a `demo:N` slide in pixels; only demo rows look at it."""
