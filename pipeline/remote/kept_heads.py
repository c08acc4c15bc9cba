"""Heads of streamed items that are kept on this machine, up to a bound: the least recently opened are dropped first.

Never dropped is a head of a recipe that a living run has announced (base/living/runs.py: with and without locks in the
file system, on this machine and others), nor one that was opened within `FRESH_S`, since not all that reads is a run.
An item is taken out of sight before it is asked who uses it, and put back where somebody does: whoever opens it
announces its recipe and touches its item.json before reading, so one of the two sees the other.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipeline.base.arrays.far import far_of
from pipeline.base.files import tree_nbytes
from pipeline.base.living.owners import now_ns
from pipeline.base.living.runs import runs
from pipeline.base.living.unfinished import claim_alone
from pipeline.base.partials import ITEM_FILE

STREAMED, HEADS, DROPPING = ".streamed", "items", "dropping"
FRESH_S = 600.0
_SHARE = 16
"""After so much of the bound has come, 1 / `_SHARE`, it is looked what there is, and room made for as much again."""
_DROPPED = ".dropped"


class KeptHeads:
    """The heads below a store's root, at most `limit` bytes of those that nobody uses. Of many threads."""

    def __init__(self, root: Path, limit: int) -> None:
        self.root, self.limit = root, limit
        self._lock = threading.Lock()
        # Unknown what is there: the first that comes has it looked at.
        self._came = limit

    def came(self, folder: Path) -> None:
        """A head has been brought; others may have to go for it."""
        with self._lock:
            self._came += tree_nbytes(folder)
            crowded = self._came > self.limit // _SHARE
            if crowded:
                self._came = 0
        if crowded:
            self.make_room()

    def make_room(self) -> None:
        """Drop heads that nobody uses, those opened longest ago first, until there is room below the bound.

        One process does it at a time; others leave it to that one.
        """
        claim = claim_alone(self.root / STREAMED / DROPPING)
        if claim is not None:
            try:
                self._make_room(self.root / STREAMED / HEADS)
            finally:
                claim.drop()

    def _make_room(self, heads: Path) -> None:
        found = sorted((_opened_ns(folder), str(folder), tree_nbytes(folder)) for folder in _items(heads))
        excess = sum(nbytes for _, _, nbytes in found) - (self.limit - self.limit // _SHARE)
        for _, name, nbytes in found:
            if excess <= 0:
                return
            if self._drop(Path(name)):
                excess -= nbytes

    def _drop(self, folder: Path) -> bool:
        if self._is_used(folder, folder):
            return False
        dying = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{_DROPPED}")
        try:
            os.rename(folder, dying)
        except OSError:
            return False
        if self._is_used(folder, dying):
            with contextlib.suppress(OSError):
                # Whoever missed it meanwhile may have brought it again.
                os.rename(dying, folder)
                return False
        shutil.rmtree(dying, ignore_errors=True)
        return True

    def _is_used(self, folder: Path, now: Path) -> bool:
        """Whether the head of a folder, which is called `now` at the moment, is used or was just opened."""
        recipe = folder.parent.relative_to(self.root / STREAMED / HEADS).as_posix()
        if far_of(folder) is not None or any(run.living and recipe in run.held for run in runs(self.root)):
            return True
        return now_ns(folder.parent) - _opened_ns(now) < FRESH_S * 1e9


@functools.cache
def kept_heads(root: Path, limit: int, pid: int) -> KeptHeads:
    """The one of a process and a store."""
    return KeptHeads(root, limit)


def _items(heads: Path) -> Iterator[Path]:
    """Folders of items, and what killed processes have left of some."""
    for recipe in heads.glob("*/*"):
        for entry in os.scandir(recipe):
            if entry.name.endswith(_DROPPED):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != "recipe.json" and entry.is_dir():
                yield Path(entry.path)


def _opened_ns(folder: Path) -> int:
    """When it was opened last; of half a head, when it was made."""
    for path in (folder / ITEM_FILE, folder):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime_ns
    return 0
