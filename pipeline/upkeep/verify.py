"""Whether an item is as it was committed, and which slide and rows are concerned where it is not."""

from __future__ import annotations

from pathlib import Path

from pipeline.base.arrays import rows_of_file
from pipeline.base.errors import CorruptItem
from pipeline.base.store import Ref, Store
from pipeline.upkeep.named import Named


def corrupt(store: Store, ref: Ref, named: Named) -> CorruptItem | None:
    """What is wrong with an item, by slide and rows where the manifests and the arrays tell; None where nothing is."""
    faults = store.faults(ref)
    if not faults:
        return None
    wrong = "; ".join(f"{name}{_rows(store.path(ref), name)} {what}" for name, what in faults.items())
    slide = named.slides.get(str(ref))
    folder = store.path(ref)
    fix = f"delete {folder} and run its stage again"
    if store.holder(ref) != store.root:
        fix = f"it is in a base: whoever keeps {store.holder(ref)} deletes {folder}, and then run its stage again"
    return CorruptItem(wrong, where=f"slide {slide}, {ref}" if slide is not None else str(ref), fix=fix)


def _rows(item: Path, name: str) -> str:
    try:
        rows = rows_of_file(item, name)
    except (CorruptItem, ValueError, LookupError):
        return " (rows unknown: the metadata is broken too)"
    return "" if rows is None else f" (rows {rows.start}-{rows.stop - 1})"
