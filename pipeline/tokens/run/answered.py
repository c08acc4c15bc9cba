"""Tiles that the teacher has answered already, as tiles of another item: they are copied, and not asked about again.

A folder of images is one item, keyed by the names and contents of all of it, and so is a split of a data set. When one
image is added, moved, renamed or put into another class, the item is another, but its tiles are the same: they are
found by content (`tiles/item/content.py`) in the committed items of the same recipe. The recipe has all else that an
answer depends on, and each row is standardised, rotated and scaled for itself by the recipe's frozen calibration, so a
copied row is the row that the teacher would give again, bit for bit. Slides are not looked through: a copy of a slide
is the same item.

A row is taken only from an item that is whole: all of its files are compared with their checksums first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.base.errors import HistillError
from pipeline.base.items import TilesItem
from pipeline.base.progress import track
from pipeline.base.store import Ref, Store
from pipeline.teachers.statistics import Calibration
from pipeline.tiles.item.content import Digests, Found, look_for
from pipeline.tiles.item.meta import IMAGES, read_meta
from pipeline.tiles.item.reader import TileReader
from pipeline.tokens.item.reader import TokenReader

SHOWN_NBYTES = 1 << 28
"""Of items to compare, from which on it is shown how far it is."""


class Answered:
    """The committed items of one recipe that are folders of images, by the content of their tiles.

    Every item is read once a process; pickles without what was read.
    """

    def __init__(self, store: Store, tokens_key: str, tiles_key: str) -> None:
        self._store, self._tokens_key, self._tiles_key = store, tokens_key, tiles_key
        self._digests: dict[str, Digests | None] = {}
        self._whole: dict[str, bool] = {}

    def __reduce__(self) -> tuple[type[Answered], tuple[Store, str, str]]:
        return Answered, (self._store, self._tokens_key, self._tiles_key)

    def find(self, items: Sequence[TilesItem], frozen: Calibration | None) -> dict[str, Found]:
        """Where the rows of items that are not committed are: {item key: of all its rows}, items without one left out.

        `frozen` is the recipe's calibration. One pass over the committed items, however many are asked about.
        """
        asked = {item.key: TileReader(self._tiles(item.key)) for item in items if item.kind in IMAGES}
        wanted = {key: digests for key, reader in asked.items() if (digests := _read(reader)) is not None}
        if not wanted:
            return {}
        whole_W = np.concatenate(list(wanted.values()))
        while (found := look_for(whole_W, self._among(set(wanted)))).sources:
            if not self._damaged(found.sources, frozen):
                break
        ends = np.cumsum([len(digests) for digests in wanted.values()]).tolist()
        starts = [0, *ends[:-1]]
        of_items = {key: found.take(slice(start, end)) for key, start, end in zip(wanted, starts, ends, strict=True)}
        return {key: rows for key, rows in of_items.items() if rows.there.any()}

    def _damaged(self, keys: Sequence[str], frozen: Calibration | None) -> list[str]:
        """Those that rows cannot be taken from; gigabytes may have to be read for it, and that is shown."""
        new = [key for key in keys if key not in self._whole]
        total = sum(self._nbytes(key) for key in new)
        with track("known answers", total if total >= SHOWN_NBYTES else 0, "bytes compared") as advance:
            return [key for key in keys if not self._is_whole(key, frozen, advance)]

    def _nbytes(self, key: str) -> int:
        try:
            return self._store.nbytes(Ref("tokens", self._tokens_key, key))
        except (HistillError, OSError, ValueError):
            return 0

    def reader(self, key: str) -> TokenReader:
        """The answers of a committed item."""
        return TokenReader(self._store.path(Ref("tokens", self._tokens_key, key)))

    def _among(self, without: set[str]) -> Iterator[tuple[str, Digests]]:
        folders = self._store.recipes("tokens", self._tokens_key)
        for key in sorted({path.name for folder in folders for path in folder.glob("[!.]*") if path.is_dir()}):
            if key in without or not self._whole.get(key, True):
                continue
            if key not in self._digests:
                self._digests[key] = self._digests_of(key)
            digests = self._digests[key]
            if digests is not None:
                yield key, digests

    def _digests_of(self, key: str) -> Digests | None:
        """None of a slide, and of what is not there or cannot be read: nothing is copied from it then."""
        try:
            return _read(TileReader(self._tiles(key))) if read_meta(self._tiles(key)).kind in IMAGES else None
        except (OSError, ValueError):
            return None

    def _tiles(self, key: str) -> Path:
        return self._store.path(Ref("tiles", self._tiles_key, key))

    def _is_whole(self, key: str, frozen: Calibration | None, read: Callable[[int], object]) -> bool:
        """Whether each file is as it was committed, in the space of `frozen`."""
        if key not in self._whole:
            ref = Ref("tokens", self._tokens_key, key)
            try:
                same = frozen is None or _same_space(self.reader(key), frozen)
                self._whole[key] = same and not self._store.faults(ref, read)
            except (HistillError, OSError, ValueError):
                self._whole[key] = False
        return self._whole[key]


def _read(reader: TileReader) -> Digests | None:
    try:
        return reader.digests
    except (HistillError, OSError, ValueError):
        return None


def _same_space(reader: TokenReader, frozen: Calibration) -> bool:
    return np.array_equal(reader.mu, frozen.mu) and np.array_equal(reader.sigma, frozen.sigma)
