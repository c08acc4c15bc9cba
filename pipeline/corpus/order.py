"""In which order rows are trained on: a pure function of (seed, epoch), without I/O.

A cold disk reads neighbours 2-3 times faster than single rows, so what is shuffled are *blocks* of neighbouring rows,
over all slides; the blocks of one window (about `buffer_rows` rows) are then mixed row by row, so that a batch holds
tiles of many slides. Example: slides of 70 and 30 rows, blocks of 32, a buffer of 64 rows:

    blocks     A[0:32] A[32:64] A[64:70] B[0:30]
    shuffled   B[0:30] A[32:64] | A[64:70] A[0:32]        two blocks a window
    mixed      B3 A40 B29 A33 … | A1 A66 A30 …            each window permuted by itself

A window is computed when it is asked for, from (seed, epoch, window), so starting in the middle of an epoch costs
nothing, and 20 million rows need only their 625,000 blocks in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
PARTS = 29
"""Fourth word of the seed of whatever is drawn for parts of a corpus, before the part's number."""


@dataclass(frozen=True)
class Places:
    """Places in the corpus, in order: `slide` (index), `row` in it, `view` of it; each (n,) int64."""

    slide: Ints
    row: Ints
    view: Ints

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, part: slice) -> Places:
        return Places(self.slide[part], self.row[part], self.view[part])

    @staticmethod
    def joined(parts: Sequence[Places]) -> Places:
        """One after the other."""
        return Places(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("slide", "row", "view")))


@dataclass(frozen=True)
class Part:
    """Of a corpus (`shards.py`): `count` tiles of each `slide`, of those that are kept from the `first` on; each
    (n,) int64. `number` sets its random numbers apart from other parts'."""

    number: int
    slide: Ints
    first: Ints
    count: Ints


def kept_count(n: int, fraction: float) -> int:
    """How many of a slide's n rows a fraction keeps: at least one, where there is one."""
    # 100 * 0.07 is a little more than 7 in floating point, and would be rounded up to 8.
    return n if fraction == 1 else min(n, max(1, math.ceil(n * fraction - 1e-9)))


def kept_rows(n: int, fraction: float) -> Ints:
    """Which of a slide's n rows a fraction keeps: the first ceil(n * fraction) in bit-reversed order, sorted.

    Bit-reversed counting (van der Corput's sequence: 0, 4, 2, 6, 1, 5, 3, 7) spreads whatever share of it is taken, the
    largest gap at most twice the smallest, and a smaller fraction's rows are among a larger one's. Neighbouring rows
    are neighbouring tiles, so a fraction is tissue from everywhere on the slide.
    """
    if fraction == 1:
        return np.arange(n)
    bits = max(1, n - 1).bit_length()
    counted = np.arange(2**bits)
    reversed_ = np.sum([((counted >> bit) & 1) << (bits - 1 - bit) for bit in range(bits)], axis=0)
    return np.sort(reversed_[reversed_ < n][: kept_count(n, fraction)])


class Order:
    """The order of every epoch over slides of `rows_per_slide` rows, each row with one of `views` views at random.

    With a `fraction` below 1 the `kept_rows` of each slide, the same every epoch, are all there is; with a `part` its
    tiles alone.
    """

    def __init__(
        self,
        rows_per_slide: Sequence[int],
        *,
        block_rows: int,
        buffer_rows: int,
        views: int = 1,
        seed: int = 0,
        fraction: float = 1.0,
        part: Part | None = None,
    ) -> None:
        # Without a fraction a place is its row, and no list of rows is held.
        self.kept = None if fraction == 1 else [kept_rows(n, fraction) for n in rows_per_slide]
        counts = np.asarray(rows_per_slide if self.kept is None else [len(rows) for rows in self.kept], np.int64)
        if part is None:
            part = Part(0, np.arange(len(counts)), np.zeros(len(counts), np.int64), counts)
        blocks = -(-part.count // block_rows)
        self.slide = np.repeat(part.slide, blocks)
        before = np.repeat(np.cumsum(blocks) - blocks, blocks)
        within = (np.arange(len(self.slide)) - before) * block_rows
        self.start = np.repeat(part.first, blocks) + within
        self.rows = np.minimum(block_rows, np.repeat(part.count, blocks) - within)
        self.total = int(part.count.sum())
        self.window_blocks = max(1, buffer_rows // block_rows)
        self.views, self.seed, self.number = views, seed, part.number

    def epoch(self, epoch: int) -> Epoch:
        """The order of that epoch."""
        return Epoch(self, epoch)

    def steps(self, batch_size: int) -> int:
        """Whole batches of an epoch."""
        return self.total // batch_size


class Epoch:
    """One epoch's order, read piece by piece; the last window made is kept, since reading goes forwards."""

    def __init__(self, order: Order, epoch: int) -> None:
        self.order, self.epoch = order, epoch
        self.blocks = _random(order, epoch).permutation(len(order.slide))
        ends = np.cumsum(order.rows[self.blocks])
        last = np.arange(order.window_blocks - 1, len(ends) + order.window_blocks - 1, order.window_blocks)
        self.ends = ends[np.minimum(last, len(ends) - 1)]
        self._kept: tuple[int, Places] | None = None

    def windows(self, start: int, stop: int) -> range:
        """The windows that hold the places start:stop."""
        first, last = np.searchsorted(self.ends, [start, stop - 1], side="right")
        return range(int(first), int(last) + 1)

    def blocks_of(self, window: int) -> list[tuple[int, Ints]]:
        """(slide, its rows) of each block that the window mixes, in the order in which blocks were shuffled."""
        order, size = self.order, self.order.window_blocks
        found = []
        for block in self.blocks[window * size : (window + 1) * size].tolist():
            slide = int(order.slide[block])
            rows = np.arange(order.start[block], order.start[block] + order.rows[block])
            found.append((slide, rows if order.kept is None else order.kept[slide][rows]))
        return found

    def take(self, start: int, stop: int) -> Places:
        """Places start:stop of this epoch's order; 0 <= start < stop <= total rows."""
        if not 0 <= start < stop <= self.order.total:
            raise IndexError(f"places {start}:{stop} of {self.order.total}")
        parts = []
        for window in self.windows(start, stop):
            offset = int(self.ends[window - 1]) if window else 0
            parts.append(self._window(window)[max(0, start - offset) : stop - offset])
        return Places.joined(parts)

    def batch(self, number: int, size: int, first: int, stop: int) -> Places:
        """Places first:stop of this epoch's batch of that number, of `size` tiles."""
        return self.take(number * size + first, number * size + stop)

    def _window(self, window: int) -> Places:
        if self._kept is None or self._kept[0] != window:
            order = self.order
            blocks = self.blocks[window * order.window_blocks : (window + 1) * order.window_blocks]
            rows = order.rows[blocks]
            within = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
            random = _random(order, self.epoch, window + 1)
            mixed = random.permutation(len(within))
            slide, place = np.repeat(order.slide[blocks], rows), np.repeat(order.start[blocks], rows) + within
            if order.kept is not None:
                place = np.array([order.kept[s][p] for s, p in zip(slide, place, strict=True)], np.int64)
            self._kept = window, Places(slide[mixed], place[mixed], random.integers(order.views, size=len(within)))
        return self._kept[1]


def _random(order: Order, epoch: int, window: int = 0) -> np.random.Generator:
    part = [PARTS, order.number] if order.number else []
    return np.random.default_rng([order.seed % 2**32, epoch, window, *part])
