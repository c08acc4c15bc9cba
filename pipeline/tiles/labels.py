"""Labels of a demo slide's tiles, from its pixel-exact map of tissue classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.demo.regions import CLASSES
from pipeline.tiles.grid import Geometry

MAJORITY = 0.6
"""Share of the tile that one class must cover to be its label."""


class LabelMap:
    """labels.png: a class index (into `CLASSES`; 0 is glass) for every pixel of level 0."""

    def __init__(self, path: Path, geometry: Geometry) -> None:
        with Image.open(path) as image:
            self._label_HW = np.asarray(image)
        self._width, self._height = (round(side) for side in geometry.size_l0)

    def of(self, x_l0: int, y_l0: int) -> str | None:
        """The class of most of the tile at that corner; None where none has `MAJORITY`, or where it is glass."""
        part_HW = self._label_HW[max(0, y_l0) : y_l0 + self._height, max(0, x_l0) : x_l0 + self._width]
        counts = np.bincount(part_HW.ravel())
        best = int(counts.argmax())
        return CLASSES[best] if best and counts[best] >= MAJORITY * part_HW.size else None
