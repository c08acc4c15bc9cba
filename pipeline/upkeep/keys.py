"""What a key stands for: the items whose key begins so, and the stage that makes a kind of them."""

from __future__ import annotations

from pipeline.base.store import Ref, Store

KIND_STAGE = {
    "slides": "slides",
    "tiles": "tiles",
    "tokens": "tokens",
    "teachers": "tokens",
    "engines": "tokens",
    "checkpoints": "student",
    "statistics": "student",
    "classifiers": "evaluate",
    "embeddings": "evaluate",
    "figures": "evaluate",
}


def items_of_key(store: Store, key: str) -> list[Ref]:
    """Items whose recipe or item key begins with `key`, or whose whole name is `key`."""
    return [ref for ref in store.refs() if ref.recipe.startswith(key) or ref.item.startswith(key) or str(ref) == key]
