"""Items as a killed writer leaves them."""

from __future__ import annotations

from pathlib import Path

from pipeline.base.living.owners import me
from pipeline.base.store import Ref, Store


def partials(store: Store) -> list[Path]:
    """Every partial folder of a store, whoever owns it."""
    return [path for path in store.root.glob("*/*/.partials/*/*") if path.is_dir()]


def orphaned(store: Store, ref: Ref) -> Path:
    """A committed item turned into what its writer had left if it had been killed before the commit."""
    item = store.path(ref)
    folder = item.parent / ".partials" / ref.item / ("0" * 32)
    folder.parent.mkdir(parents=True)
    item.rename(folder)
    (folder / "item.json").unlink()
    # No process has this number.
    owner = me().model_copy(update={"pid": 2**30})
    folder.with_name(f"{folder.name}.owner").write_text(owner.model_dump_json())
    return folder
