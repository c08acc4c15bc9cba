"""Reads ahead of a training whose corpus lies in a bucket: the order of an epoch is known, so is what comes next.

What is mixed row by row is a window of blocks, and its first batch needs nearly all of them. So the blocks of the
window in use and of the `AHEAD` windows after it are asked for, many at a time and each in few requests; a batch is
read when its windows have come. They come into the bucket's cache on this machine, which should hold 2 + `AHEAD`
windows (`student.buffer_rows` tiles each): what it drops before it is read, a batch asks for again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import lru_cache

from pipeline.base.errors import HistillError
from pipeline.base.types import Rows
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.order import Order

AHEAD = 2
_THREADS = 32
"""Blocks on their way at a time: at 20 ms an answer, and four answers a block, some 400 blocks a second."""
Window = tuple[int, int]
"""Epoch, and which of its windows."""


class Ahead:
    """Windows of a corpus, asked for ahead of the steps before `stop`; with patch tokens of the teachers in `dense`.

    A step takes `batch_size` places of its epoch, of which an epoch's tail is left out. Of `world` processes, which may
    share a cache, each begins with the blocks of its own `rank`.
    """

    def __init__(
        self,
        corpus: Corpus,
        order: Order,
        batch_size: int,
        stop: int,
        *,
        dense: Collection[int],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._corpus, self._dense, self._rank, self._world = corpus, dense, rank, world
        self._batch_size, self._steps_per_epoch = batch_size, order.total // batch_size
        self._epoch = lru_cache(maxsize=2)(order.epoch)
        self._last = self._windows(stop - 1)[-1]
        self._asked: dict[Window, list[Future[None]]] = {}
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="ahead")

    def reach(self, step: int) -> list[Future[None]]:
        """Ask for what a step and those after it need; what has to have come before its batch is read."""
        own = self._windows(step)
        for window in [window for window in self._asked if window < own[0]]:
            del self._asked[window]
        for window in (*own, *self._after(own[-1])):
            if window not in self._asked:
                blocks = self._epoch(window[0]).blocks_of(window[1])
                mine = blocks[self._rank :: self._world]
                others = [block for i, block in enumerate(blocks) if i % self._world != self._rank]
                self._asked[window] = [self._pool.submit(self._bring, *block) for block in (*mine, *others)]
        return [future for window in own for future in self._asked[window]]

    def close(self) -> None:
        """Ask for nothing more."""
        self._pool.shutdown(cancel_futures=True)

    def _bring(self, slide: int, rows: Rows) -> None:
        # What cannot be had is said by the batch that needs it, which asks once more.
        with contextlib.suppress(HistillError):
            self._corpus.prepare(slide, rows, self._dense)

    def _windows(self, step: int) -> list[Window]:
        """Those that hold the step's batch."""
        number, within = divmod(step, self._steps_per_epoch)
        first = within * self._batch_size
        return [(number, window) for window in self._epoch(number).windows(first, first + self._batch_size)]

    def _after(self, window: Window) -> Iterator[Window]:
        """The `AHEAD` windows after one, as far as steps come to them."""
        number, within = window
        for _ in range(AHEAD):
            within += 1
            if within == len(self._epoch(number).ends) or self._is_tail(number, within):
                number, within = number + 1, 0
            if (number, within) > self._last:
                return
            yield number, within

    def _is_tail(self, number: int, within: int) -> bool:
        """Whether no step of the epoch comes to that window."""
        return int(self._epoch(number).ends[within - 1]) >= self._steps_per_epoch * self._batch_size


def settle(futures: Sequence[Future[None]]) -> None:
    """Wait until all have come, or failed, or are not wanted any more."""
    for future in futures:
        with contextlib.suppress(CancelledError):
            future.exception()
