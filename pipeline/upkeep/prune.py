"""What may be deleted from the store: committed items that nobody names."""

from __future__ import annotations

from pipeline.base.errors import StoreError
from pipeline.base.store import Ref, Store
from pipeline.upkeep.named import Named


def prunable(store: Store, named: Named) -> list[Ref]:
    """Committed items that nobody names. Raises `StoreError` while some manifest's content is unknown.

    So too where nothing names anything: outside a project, or in a fresh checkout, all would go, others' items as well.
    """
    if named.unknown:
        shown = "; ".join(named.unknown[:5])
        fix = "get them (`dvc fetch --all-commits`), delete the refs that name them, or say --ignore-missing"
        raise StoreError(f"cannot tell what is still needed: DVC's cache lacks {shown}", where=str(store.root), fix=fix)
    refs = [ref for ref in store.refs() if str(ref) not in named.by]
    if refs and not named.by:
        fix = (
            "run it where `dvc repro` has run, or give such a checkout with --checkout; to drop all, delete the folder"
        )
        raise StoreError("no manifest here names any item, so all would be deleted", where=str(store.root), fix=fix)
    return refs
