"""An item's head: all of its files but the chunks of its large arrays, in one object, so that one request opens it.

An uncompressed zip of item.json and those files: metadata, tables, places, sums, pictures for people. Each is held to
the sha256 that item.json has of it, so a head is worth what it says, and nothing where it is missing or damaged.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.base.partials import ITEM_FILE

FAR: Mapping[str, tuple[str, ...]] = {"tiles": ("jpeg",), "tokens": ("cls", "patch", "scale")}
"""The arrays of a kind whose chunks are read where they lie; kinds that are not named are fetched whole."""


def is_far(kind: str, name: str) -> bool:
    """Whether a file of an item, by its name in it, is a chunk of such an array."""
    array, _, key = name.partition("/")
    return array in FAR.get(kind, ()) and key.startswith(("c/", "c."))


def packed(kind: str, folder: Path, names: list[str]) -> bytes:
    """The head of an item that lies in a folder and has these files; the same item gives the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as head:
        for name in (ITEM_FILE, *sorted(name for name in names if not is_far(kind, name))):
            head.writestr(zipfile.ZipInfo(name), (folder / name).read_bytes())
    return out.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    """What a head holds, by name; nothing of what is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as head:
            return {name: head.read(name) for name in head.namelist()}
    except (zipfile.BadZipFile, EOFError, NotImplementedError):
        return {}
