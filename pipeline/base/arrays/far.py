"""Items of which only the small files are here: the chunks of their large arrays are read where they lie, in a bucket.

Such an item is a folder like any other, so that readers take it as they take one of the store. Whoever opens it says,
for this process, where the rest is (`attach`); `MappedArray` asks for that (`far_of`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypeAlias

from pipeline.base.types import Array

Span: TypeAlias = tuple[int, int]
"""First, and one after the last."""


class FarFiles(Protocol):
    """Files of one item that lie elsewhere, by their names in it. Of many threads at a time; pickles."""

    def holds(self, name: str) -> bool:
        """Whether that file lies elsewhere."""

    def view(self, name: str, start: int, stop: int) -> Array:
        """Bytes [start, stop) of a file, (stop - start,) uint8, read-only. Raises `RemoteError`."""

    def prepare(self, name: str, spans: Iterable[Span]) -> None:
        """Have bytes of a file at hand, in few requests, before `view` asks for them. Raises `RemoteError`."""


Attached: TypeAlias = tuple[tuple[Path, FarFiles], ...]
"""Items, each with what it has elsewhere; pickles."""
_attached: dict[Path, FarFiles] = {}


def attach(folder: Path, files: FarFiles) -> None:
    """The item in that folder has these files elsewhere, as far as this process goes."""
    _attached[folder] = files


def attached_of(folders: Iterable[Path]) -> Attached:
    """What is attached of these items, to be attached in another process of this machine."""
    return tuple((folder, _attached[folder]) for folder in folders if folder in _attached)


def far_of(folder: Path) -> FarFiles | None:
    """What the item in that folder has elsewhere; None where all of it is here."""
    return _attached.get(folder)
