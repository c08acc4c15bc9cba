"""One item from the bucket into the store, or from the store into the bucket.

Each file is compared with the sha256 that the store committed it by, on both ways, and never with what an object store
says of itself. A transfer that was cut goes on: fetching at the byte, sending at the file. The item's own file comes
last, so that nobody sees a part of an item.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter, ValidationError

from pipeline.base.errors import RemoteError
from pipeline.base.partials import ITEM_FILE, StoredFile, file_sha256
from pipeline.base.store import Ref, Store
from pipeline.remote.heads import FAR, packed
from pipeline.remote.names import head, marker, of_file, recipe_file
from pipeline.remote.objects import Objects

BLOCK = 16 << 20
"""Bytes that one request reads, and that a cut connection costs at most."""
PART = ".part"
_FILES = TypeAdapter(dict[str, StoredFile])
_ATTEMPTS = 3
"""At a file whose bytes differ: a reader may be given an older object, or half of one, once."""


def files_in(objects: Objects, ref: Ref, item: bytes) -> dict[str, StoredFile]:
    """What an item.json from the bucket says of each file. Raises `RemoteError` for half of one, or names outside."""
    try:
        files = _FILES.validate_json(item)
    except ValidationError:
        where = f"{objects.url}/{marker(ref)}"
        raise RemoteError("half an item.json", where=where, fix="`histill store push --again`") from None
    _require_inside(objects, ref, files)
    return files


def fetch(objects: Objects, ref: Ref, item: bytes, files: Mapping[str, StoredFile], partial: Path) -> None:
    """Fill a partial folder with files of an item, going on in what is there. Raises `RemoteError`."""
    wanted = {partial / name for name in files}
    for path in sorted(partial.rglob("*")):
        if path.is_file() and path not in wanted and path.with_name(path.name.removesuffix(PART)) not in wanted:
            path.unlink()
    for name, entry in files.items():
        _fetch_file(objects, of_file(ref, item, name), entry, partial / name)


def _fetch_file(objects: Objects, name: str, entry: StoredFile, to: Path) -> None:
    if to.is_file() and file_sha256(to) == entry["sha256"]:
        return
    part = to.with_name(f"{to.name}{PART}")
    part.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_ATTEMPTS):
        with open(part, "ab") as file:
            while (have := file.tell()) < entry["nbytes"]:
                data = _block(objects, name, have, min(have + BLOCK, entry["nbytes"]))
                if not data:
                    break
                file.write(data)
        if file_sha256(part) == entry["sha256"]:
            os.replace(part, to)
            return
        part.unlink()
    fix = "whoever has the item whole: `histill store push --again`; or make it anew with HISTILL_STORE_REMOTE=none"
    raise RemoteError("its bytes in the bucket are not those that were sent", where=f"{objects.url}/{name}", fix=fix)


def _block(objects: Objects, name: str, start: int, end: int) -> bytes:
    try:
        return objects.read(name, start, end)
    except FileNotFoundError:
        return b""


def _require_inside(objects: Objects, ref: Ref, files: Mapping[str, StoredFile]) -> None:
    """Names come from the bucket, which others write: none may leave the item's folder."""
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or name == ITEM_FILE:
            fix = "somebody has written it by other means than Histill: delete it in the bucket"
            raise RemoteError(f"{name!r} is no file of an item", where=f"{objects.url}/{marker(ref)}", fix=fix)


def send(objects: Objects, ref: Ref, store: Store) -> int:
    """Send an item that the store has; bytes sent. Raises `CorruptItem` for one that is not whole, and `RemoteError`.

    What is there already is read and compared, what is not is sent and then read: a push costs the reading of what it
    has sent, and an object store that keeps other bytes is found out before anybody relies on them.
    """
    folder = store.path(ref)
    item, sent = (folder / ITEM_FILE).read_bytes(), 0
    store.verify(ref)
    for name, entry in store.files(ref).items():
        sent += _send_file(objects, of_file(ref, item, name), entry, folder / name)
    if ref.kind in FAR:
        _send_whole(objects, head(ref), packed(ref.kind, folder, list(store.files(ref))))
    _send_json(objects, recipe_file(ref), (folder.parent / "recipe.json").read_bytes())
    _send_json(objects, marker(ref), item)
    return sent


def _send_file(objects: Objects, name: str, entry: StoredFile, file: Path) -> int:
    sent = 0
    for _ in range(_ATTEMPTS):
        if objects.size(name) == entry["nbytes"] and _sha256(objects, name, entry["nbytes"]) == entry["sha256"]:
            return sent
        objects.put(name, file)
        sent += entry["nbytes"]
    if _sha256(objects, name, entry["nbytes"]) != entry["sha256"]:
        raise _kept_otherwise(objects, name)
    return sent


def _send_whole(objects: Objects, name: str, data: bytes) -> None:
    """A head is held to item.json's checksums when it is read: of two who send one item, either's will do."""
    if _content(objects, name) != data:
        objects.write(name, data)


def _send_json(objects: Objects, name: str, data: bytes) -> None:
    """What is whole JSON afterwards is ours, or that of somebody who sends the same item and was a little later."""
    for _ in range(_ATTEMPTS):
        if _content(objects, name) == data:
            return
        objects.write(name, data)
    try:
        json.loads(_content(objects, name) or b"")
    except ValueError:
        raise _kept_otherwise(objects, name) from None


def _content(objects: Objects, name: str) -> bytes | None:
    try:
        return objects.read(name)
    except FileNotFoundError:
        return None


def _kept_otherwise(objects: Objects, name: str) -> RemoteError:
    fix = "try again: what has been sent is kept; if it stays so, look at what lies between here and the bucket"
    return RemoteError("the bucket keeps other bytes than were sent", where=f"{objects.url}/{name}", fix=fix)


def _sha256(objects: Objects, name: str, nbytes: int) -> str:
    """Of an object's content, read block by block; of nothing where it is shorter or gone."""
    found = hashlib.sha256()
    for start in range(0, nbytes, BLOCK):
        found.update(_block(objects, name, start, min(start + BLOCK, nbytes)))
    return found.hexdigest()
