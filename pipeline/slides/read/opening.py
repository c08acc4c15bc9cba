"""Opens a slide with the reader that the params ask for."""

from __future__ import annotations

from pathlib import Path

from pipeline.slides.read.direct import DirectReader, How
from pipeline.slides.read.reader import SlideReader
from pipeline.slides.read.reduced import ReducedReader
from pipeline.slides.table import Mpp


def open_slide(path: Path, mpp: Mpp = None, how: How = "auto", *, reduced_dct: bool = False) -> SlideReader:
    """A slide open for reading: by OpenSlide alone, or as `DirectReader` does, or with `ReducedReader`'s levels too.

    Raises `SlideRefused`.
    """
    if reduced_dct:
        return ReducedReader(path, mpp)
    return SlideReader(path, mpp) if how == "openslide" else DirectReader(path, mpp, how)
