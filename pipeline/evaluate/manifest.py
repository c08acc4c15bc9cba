"""artifacts/evaluate.json as a type."""

from __future__ import annotations

from typing import Literal

from pipeline.base.figures import Number
from pipeline.base.manifest import Item, Manifest
from pipeline.evaluate.headline import headline
from pipeline.evaluate.summary import EvaluateSummary


class EvaluateItem(Item):
    """One held-out slide: n tiles compared, the mean of their cosines to the teacher and its 5th percentile.

    The two of patch tokens are None where none were compared.
    """

    split: str
    cosine: Number
    cosine_p5: Number
    patch_cosine: Number | None = None
    patch_cosine_p5: Number | None = None


class EvaluateManifest(Manifest[EvaluateItem, EvaluateSummary]):
    """artifacts/evaluate.json; its items are the held-out slides."""

    stage: Literal["evaluate"] = "evaluate"
    version: int = 5

    def numbers(self) -> dict[str, float]:
        """The figures that lead, flat."""
        return headline(self.summary)
