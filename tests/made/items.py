"""Items and facts as the stages leave them, with what a test does not care about filled in."""

from __future__ import annotations

from typing import Any

from pipeline.base.items import FileItem, SlideItem, StudentFacts, StudentManifest, TilesItem, TokensItem

TEACHER = {"name": "made", "weights_digest": "0" * 64, "width": 24, "grid": [7, 7], "input_px": 64}


def slide_item(slide_id: str, split: str = "train", **said: Any) -> SlideItem:
    """A slide of the catalogue."""
    given = {"key": slide_id, "digest": "d", "n": 1, "kind": "file", "vendor": "generic-tiff", "nbytes": 1}
    return SlideItem(**{**given, "id": slide_id, "split": split, **said})


def tiles_item(slide_id: str, n: int, split: str = "train", **said: Any) -> TilesItem:
    """A slide's n tiles."""
    given = {"key": slide_id, "digest": "d", "kind": "file", "tissue_mm2": None}
    return TilesItem(**{**given, "id": slide_id, "n": n, "split": split, **said})


def tokens_item(slide_id: str, n: int, split: str = "train", **said: Any) -> TokensItem:
    """The teacher's answers to a slide's n tiles."""
    given = {"key": slide_id, "digest": "d", "kind": "file"}
    return TokensItem(**{**given, "id": slide_id, "n": n, "split": split, **said})


def student_facts(**said: Any) -> StudentFacts:
    """What run.json says of a training."""
    given: dict[str, Any] = {
        "model": "test_efficientnet", "input_px": 64, "width": 24, "grid": (7, 7), "tile_px": 64, "target_mpp": 0.5,
        "parameters": 1000, "teacher": TEACHER, "student": {}, "precision": "fp32", "adapter": None, "train_slides": 1,
        "train_tiles": 1, "views": 1, "steps": 1, "batch_size": 1, "tiles_seen": 1, "loss": {"loss": 1.0},
    }  # fmt: skip
    return StudentFacts.model_validate(given | said)


def student_manifest(recipe: dict[str, Any] | None = None, weights: str | None = None, **said: Any) -> StudentManifest:
    """student.json of that training; `weights` is the digest of its model.safetensors."""
    file = {"id": "model.safetensors", "key": "student", "digest": weights, "nbytes": 1}
    items = () if weights is None else (FileItem.model_validate(file),)
    return StudentManifest(recipe=recipe or {}, items=items, summary=student_facts(**said))
