"""artifacts/evaluate.json as a type."""

from __future__ import annotations

from typing import Any, Literal

from pipeline.base.manifest import Item, Manifest


class EvaluateItem(Item):
    """One held-out slide: n tiles compared, the mean of their cosines to the teacher and its 5th percentile.

    The two of patch tokens are None where none were compared.
    """

    split: str
    cosine: float
    cosine_p5: float
    patch_cosine: float | None = None
    patch_cosine_p5: float | None = None


class EvaluateManifest(Manifest[EvaluateItem, dict[str, Any]]):
    """Its `summary` is described in stage.py."""

    stage: Literal["evaluate"] = "evaluate"
    version: int = 3
