"""The file system's side of the store: an item's files, and what a refusal to write means."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from typing_extensions import TypedDict

from pipeline.base.errors import StoreFull, StoreReadOnly
from pipeline.base.files import umask
from pipeline.base.limits import usable_cores

ITEM_FILE = "item.json"
_HASH_THREADS = min(4, usable_cores())
_HASHED_ALONE = 8 << 20
"""Bytes of an item that one thread hashes."""
_SMALL, _BLOCK = 64 << 10, 256 << 10
"""Bytes of a file that is read at once, and of what is read of others at a time."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)
"""What the system says where there is no room, and where one may not write."""


OF_FILE = "of.json"
"""In an item that serves as long as others are there, and that no manifest names: those, as kind/recipe/item."""


class StoredFile(TypedDict):
    """What item.json says of a file."""

    nbytes: int
    sha256: str


def file_sha256(path: Path | str) -> str:
    """sha256 of a file's content, hex."""
    with open(path, "rb", buffering=0) as file:
        # Most are small, and need none of the digest's own buffer.
        data = file.read(_SMALL)
        digest = hashlib.sha256(data)
        if len(data) == _SMALL:
            block = bytearray(_BLOCK)
            while n := file.readinto(block):
                digest.update(memoryview(block)[:n])
        return digest.hexdigest()


def describe(folder: Path) -> bytes:
    """item.json: size and sha256 of every file, by relative name."""
    # Text, since a Path of each is most of what an item of few tiles costs.
    found = sorted(f"{parent}/{name}" for parent, _, names in os.walk(folder) for name in names)
    named = {path[len(f"{folder}/") :]: path for path in found}
    named.pop(ITEM_FILE, None)
    sizes = [os.stat(path).st_size for path in named.values()]  # noqa: PTH116
    # Hashing lets go of the GIL; an item of thousands of chunks would hold its writer up for as long on one thread.
    # One of a few small files takes less than the threads to start, and of one large file they hash no part.
    if sum(sizes) < _HASHED_ALONE or 2 * max(sizes) > sum(sizes):
        sums = [file_sha256(path) for path in named.values()]
    else:
        with ThreadPoolExecutor(_HASH_THREADS) as pool:
            sums = list(pool.map(file_sha256, named.values()))
    files = {
        name: {"nbytes": nbytes, "sha256": sha256} for name, nbytes, sha256 in zip(named, sizes, sums, strict=True)
    }
    return json.dumps(files, indent=1, sort_keys=True).encode() + b"\n"


def differing(
    folder: Path, files: Mapping[str, StoredFile], read: Callable[[int], object] = lambda nbytes: None
) -> dict[str, str]:
    """What is wrong with each of an item's files that is not as item.json says, by name; `read` is told of each."""
    wrong = {}
    for name, entry in files.items():
        file = folder / name
        if not file.is_file():
            wrong[name] = "is missing"
        elif file.stat().st_size != entry["nbytes"]:
            wrong[name] = f"has {file.stat().st_size} bytes, not {entry['nbytes']}"
        elif file_sha256(file) != entry["sha256"]:
            wrong[name] = "has another checksum"
        read(entry["nbytes"])
    return wrong


@contextlib.contextmanager
def store_errors(where: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into errors that say what to do."""
    try:
        yield
    except OSError as error:
        # A store that is not there yet fails where its first missing folder would be, which is above it.
        root, at = where.parents[2], Path(str(error.filename or where))
        if not at.is_relative_to(root) and not root.is_relative_to(at):
            raise
        if error.errno in FULL:
            fix = (
                "free some space (`histill store prune` shows what nobody names, and leaves what this run has made), "
                "or point HISTILL_STORE at a larger disk; then run again"
            )
            raise StoreFull(f"no room left: {error.strerror}", where=str(where), fix=fix) from error
        if error.errno in READ_ONLY:
            fix = (
                "make it writable (docs/sharing.md, for a group's store), or point HISTILL_STORE at a store of your own"
            )
            raise StoreReadOnly(f"cannot write: {error.strerror}", where=str(where), fix=fix) from error
        raise


def require_group_umask(root: Path) -> None:
    """In a store that a group writes (docs/sharing.md), what is written has to be the group's to write too."""
    try:
        mode = root.stat().st_mode
    except FileNotFoundError:
        return
    if mode & stat.S_ISGID and mode & stat.S_IWGRP and umask() & stat.S_IWGRP:
        what = f"a group shares this store, and your umask {umask():03o} would keep what you write from them"
        raise StoreReadOnly(what, where=str(root), fix="say `umask 002` first; in ~/.profile, for all that is to come")
