"""An item of the bucket opened here without being fetched: its head as a folder, its large arrays where they lie.

<store>/.streamed/items/<kind>/<recipe>/<item>/   the head's files
<store>/.streamed/pages/                          what has been read of all arrays, up to a bound (pages.py)

An eighth of the bound is the heads' (kept_heads.py), the rest the pages'.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from pipeline.base.arrays.far import attach, far_of
from pipeline.base.errors import RemoteError
from pipeline.base.partials import ITEM_FILE, StoredFile, file_sha256, store_errors
from pipeline.base.store import Ref, Store
from pipeline.remote.far import FarItem
from pipeline.remote.heads import is_far, unpacked
from pipeline.remote.kept_heads import HEADS, STREAMED, kept_heads
from pipeline.remote.names import folder_of, head, marker
from pipeline.remote.objects import Objects
from pipeline.remote.pages import pages_at
from pipeline.remote.transfers import fetch, files_in

HEADS_SHARE = 8
"""Of the bound, 1 / `HEADS_SHARE` is for items' heads."""


def open_streamed(objects: Objects, ref: Ref, store: Store, limit: int) -> Path:
    """The item's folder, its arrays attached for this process; at most `limit` bytes of all arrays are kept here.

    Raises FileNotFoundError where the bucket has no such item, and `RemoteError`.
    """
    root = store.root / STREAMED
    folder = root / HEADS / str(ref)
    if far_of(folder) is None:
        files = _intact(objects, ref, folder)
        if files is None:
            with store_errors(folder):
                files = _opened(objects, ref, folder)
                kept_heads(store.root, limit // HEADS_SHARE, os.getpid()).came(folder)
        item = (folder / ITEM_FILE).read_bytes()
        far = {name: entry for name, entry in files.items() if is_far(ref.kind, name)}
        pages = pages_at(root / "pages", limit - limit // HEADS_SHARE, os.getpid())
        attach(folder, FarItem(objects, pages, folder_of(ref, item), far))
    return folder


def _intact(objects: Objects, ref: Ref, folder: Path) -> Mapping[str, StoredFile] | None:
    """What a folder's item.json names, where all of it that belongs here is here, whole."""
    try:
        # Used, from here on: who drops items looks at this.
        os.utime(folder / ITEM_FILE)
        files = files_in(objects, ref, (folder / ITEM_FILE).read_bytes())
        near = {name: entry for name, entry in files.items() if not is_far(ref.kind, name)}
        whole = all(file_sha256(folder / name) == entry["sha256"] for name, entry in near.items())
    except (FileNotFoundError, RemoteError):
        return None
    return files if whole else None


def _opened(objects: Objects, ref: Ref, folder: Path) -> Mapping[str, StoredFile]:
    """Bring the head: one request, or one for each file where the bucket has none or a damaged one."""
    try:
        found = unpacked(objects.read(head(ref)))
    except FileNotFoundError:
        found = {}
    item = found.pop(ITEM_FILE, None) or objects.read(marker(ref))
    files = files_in(objects, ref, item)
    near = {name: entry for name, entry in files.items() if not is_far(ref.kind, name)}
    partial = folder.with_name(f".{ref.item}.{uuid.uuid4().hex}")
    try:
        partial.mkdir(parents=True)
        for name in near.keys() & found.keys():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(found[name])
        fetch(objects, ref, item, near, partial)
        (partial / ITEM_FILE).write_bytes(item)
        if folder.exists():
            os.rename(folder, partial.with_name(f"{partial.name}.damaged"))
        # Another process may have been quicker, and then has what this one has.
        with contextlib.suppress(OSError):
            os.rename(partial, folder)
    finally:
        for path in (partial, partial.with_name(f"{partial.name}.damaged")):
            shutil.rmtree(path, ignore_errors=True)
    return files
