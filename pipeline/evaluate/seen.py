"""Tiles with every model's features of them, and what of these a probe of tile labels or of slide labels takes.

Shapes: N tiles, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.base.types import Floats
from pipeline.evaluate import selection
from pipeline.evaluate.labels.from_labels import LabelledTiles
from pipeline.evaluate.selection import Sample
from pipeline.measures.probes.mil import Bags
from pipeline.measures.probes.probes import Labelled


@dataclass(frozen=True)
class Seen:
    """Tiles, and each model's features of them: {model: (N, D)}."""

    samples: Sequence[Sample]
    answers: Mapping[str, Floats]

    def labelled(self) -> LabelledTiles:
        """The tiles that have a label."""
        labels = [label for sample in self.samples for label in sample.labels]
        every = Labelled([str(label) for label in labels], selection.units_of_tiles(self.samples), self.answers)
        known = every.only(np.array([label is not None for label in labels], dtype=np.bool_))
        return LabelledTiles(selection.labelled(self.samples), known)

    def bags(self) -> Bags:
        """The slides, all of which have a label."""
        sizes = [len(sample.rows) for sample in self.samples]
        first_S = np.cumsum([0, *sizes[:-1]])
        labels = [str(sample.slide_label) for sample in self.samples]
        return Bags(labels, selection.units_of_tiles(self.samples).take(first_S), sizes, self.answers)
