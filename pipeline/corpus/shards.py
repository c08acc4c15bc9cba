"""An epoch in parts: each process reads the chunks of its own slides and touches no other.

Slides are dealt out by the seed, in random order, and cut into S parts of as many tiles (a slide that lies across a cut
is in two; fewer than S tiles are left over, in no part). Every epoch each part is in an order of its own (`order.py`),
and a batch has as many tiles of each part: example: S = 2, batches of 6:

    part 0    A3 A40 D7 | D2 A1 …
    part 1    B9 C12 B4 | C1 B7 …
    batches   A3 A40 D7 B9 C12 B4 | D2 A1 …

The parts are the same in every epoch, so that a node's page cache, or a bucket's cache, holds its own part of the
corpus and not all of it. Which tiles are in a batch depends on S and not on the number of processes, each of which
takes its slice of the batch: with as many processes as parts, or a divisor of them, a process has whole parts.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from pipeline.corpus.order import PARTS, Epoch, Order, Part, Places, kept_count


class ShardedOrder:
    """The order of every epoch in `shards` parts, over slides of `rows_per_slide` rows; the rest is each part's."""

    def __init__(
        self,
        rows_per_slide: Sequence[int],
        shards: int,
        *,
        block_rows: int,
        buffer_rows: int,
        views: int = 1,
        seed: int = 0,
        fraction: float = 1.0,
    ) -> None:
        counts = np.array([kept_count(n, fraction) for n in rows_per_slide], np.int64)
        each = int(counts.sum()) // shards
        self.total, self.shards = each * shards, shards
        dealt = np.random.default_rng([seed % 2**32, 0, 0, PARTS, 0]).permutation(len(counts))
        ends = np.cumsum(counts[dealt])
        begins = ends - counts[dealt]
        order = functools.partial(
            Order, rows_per_slide, block_rows=block_rows, views=views, seed=seed, fraction=fraction
        )
        # Together the parts' windows hold as many rows as one order's would.
        window = max(block_rows, buffer_rows // shards)
        self.parts = []
        for shard in range(shards):
            first = np.maximum(begins, each * shard)
            count = np.minimum(ends, each * (shard + 1)) - first
            own = np.flatnonzero(count > 0)
            part = Part(shard + 1, dealt[own], (first - begins)[own], count[own])
            self.parts.append(order(buffer_rows=window, part=part))

    def epoch(self, epoch: int) -> ShardedEpoch:
        """The order of that epoch."""
        return ShardedEpoch(self.parts, epoch)

    def steps(self, batch_size: int) -> int:
        """Batches of an epoch."""
        return self.total // batch_size


class ShardedEpoch:
    """One epoch's order; of a part that is not asked for nothing is made."""

    def __init__(self, parts: Sequence[Order], epoch: int) -> None:
        self.epoch, self._parts = epoch, parts
        self._made: dict[int, Epoch] = {}

    def batch(self, number: int, size: int, first: int, stop: int) -> Places:
        """Places first:stop of that batch of `size` tiles, which the parts divide."""
        own = size // len(self._parts)
        found = []
        for part in parts_in(len(self._parts), size, first, stop):
            if part not in self._made:
                self._made[part] = self._parts[part].epoch(self.epoch)
            within = self._made[part].batch(number, own, max(0, first - part * own), min(own, stop - part * own))
            found.append(within)
        return Places.joined(found)


def parts_in(shards: int, size: int, first: int, stop: int) -> range:
    """The parts of which places first:stop of a batch of `size` tiles are."""
    own = size // shards
    return range(first // own, (stop - 1) // own + 1)
