"""Batches of tiles and their cached targets, prefetched by threads, in an order that a step number determines.

The state of the loader is the step: restarting at step s yields what an uninterrupted run would have seen at s, without
reading what came before. Threads, not processes: JPEG decoding and numpy's copies release the GIL, nothing is pickled,
and a killed trainer leaves no child that would keep the store's lock.

Every process takes its slice of the same global batch, so ranks are disjoint and equal, and the tiles of a step do not
depend on how many processes there are, but for the order's parts where there are some (`shards.py`).

Shapes: N tiles of this process, H = W = `input_px`, T a teacher's positions, D its width.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from pipeline.base.errors import TrainingError
from pipeline.corpus.ahead import Ahead, settle
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.order import Order, Places
from pipeline.corpus.shards import ShardedOrder, parts_in

_TORCH = {np.dtype(np.uint8): torch.uint8, np.dtype(np.int8): torch.int8, np.dtype(np.float16): torch.float16}


@dataclass(frozen=True)
class Targets:
    """One teacher's to the tiles of a batch."""

    cls_ND: Tensor
    """float16, as the teacher answered; wider where it is mixed."""
    patch_NTD: Tensor | None
    """int8, or floating without a scale; standardised."""
    scale_NT: Tensor | None
    """float16."""

    def to(self, device: torch.device) -> Targets:
        """The same on `device`, as `Batch.to`."""
        return replace(self, **_moved(self, device))


@dataclass(frozen=True)
class Batch:
    """What one step needs, as stored: targets are dequantised where they are used, on the device."""

    image_NHWC: Tensor
    """uint8; floating, 0 to 255, once `inputs` have changed or blended it."""
    cls_ND: Tensor
    """float16, as the teacher answered; wider where it is mixed."""
    patch_NTD: Tensor | None
    """int8, or floating without a scale; standardised."""
    scale_NT: Tensor | None
    """float16."""
    slide_N: NDArray[np.int64]
    """Index of each tile's slide in the corpus, for error messages."""
    also: tuple[Targets, ...] = ()
    """Of further teachers."""

    @property
    def each(self) -> tuple[Targets, ...]:
        """One teacher's after another's, the first one's first."""
        return (Targets(self.cls_ND, self.patch_NTD, self.scale_NT), *self.also)

    def to(self, device: torch.device) -> Batch:
        """The same on `device`; from pinned memory the host does not wait for the copy.

        It is of the device's current stream, so it comes before the step that asked for it and beside none. Page-locked
        memory is reused when its copy is done (torch's allocator records which stream reads it).
        """
        if device.type == "cpu":
            return self
        also = tuple(one.to(device) for one in self.also)
        return replace(self, slide_N=self.slide_N, also=also, **_moved(self, device))


def _moved(part: Targets | Batch, device: torch.device) -> dict[str, Tensor]:
    """Its own tensors there."""
    tensors = {name: value for name, value in vars(part).items() if isinstance(value, Tensor)}
    return {name: value.to(device, non_blocking=value.is_pinned()) for name, value in tensors.items()}


@dataclass(frozen=True)
class BatchShape:
    """Of a batch: its tiles over all processes, their side, and which teachers' patch tokens come along (`dense`).

    Teachers by their places in `Corpus.each`.
    """

    batch_size: int
    input_px: int
    dense: tuple[int, ...] = ()


@dataclass(frozen=True)
class Share:
    """Which part of each batch is this process's: that of `rank` among `world` processes."""

    rank: int = 0
    world: int = 1


def shared_batch(batch_size: int, total: int, world: int, shards: int = 1) -> int:
    """Tiles of a step over all processes; fewer than asked for where the corpus holds fewer (`total`).

    Raises `TrainingError` where the processes, or the parts of the order, cannot share the batch evenly: it would be
    another training.
    """
    among = math.lcm(world, shards)
    if batch_size % among:
        parts = "" if world % shards == 0 else f" and {shards} parts (student.shards)"
        fix = f"student.batch_size: {-(-batch_size // among) * among}, or another number of processes"
        raise TrainingError(f"a batch of {batch_size} does not divide among {world} processes{parts}", fix=fix)
    return min(batch_size, total) // among * among


class Loader:
    """Endless batches over a corpus, epoch after epoch.

    The tail of an epoch that fills no batch is left out (another tail each epoch). A corpus smaller than one batch
    shrinks the batch (`shared_batch`). `workers` threads read ahead; with `pin` batches are made in page-locked memory,
    from which a GPU fetches them itself (not measured). Raises `TrainingError` where no batch is possible.
    """

    def __init__(
        self,
        corpus: Corpus,
        order: Order | ShardedOrder,
        shape: BatchShape,
        *,
        share: Share = Share(),
        workers: int = 1,
        pin: bool = False,
    ) -> None:
        self.corpus, self.order, self.input_px, self.dense = corpus, order, shape.input_px, shape.dense
        self.rank, self.world, self.workers, self.pin = share.rank, share.world, workers, pin
        shards = order.shards if isinstance(order, ShardedOrder) else 1
        self.batch_size = shared_batch(shape.batch_size, order.total, share.world, shards)
        self.own_size = self.batch_size // share.world
        # Batch norm over a single tile has no variance to speak of.
        if self.own_size < 2:
            given = f"{order.total} train tiles and a batch of {shape.batch_size}"
            what = f"{given} leave {self.own_size} a process ({share.world} of them)"
            raise TrainingError(what, fix="at least 2 are needed: add slides, raise student.batch_size or start fewer")
        self.steps_per_epoch = order.steps(self.batch_size)

    def batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """The batches of steps start … stop - 1, counted from the start of training."""
        if self.workers == 0:
            yield from map(self._read, self._places(start, stop))
            return
        with (
            ThreadPoolExecutor(self.workers, thread_name_prefix="loader") as pool,
            self._ahead(stop) as coming,
        ):
            waiting: deque[Future[Batch]] = deque()
            try:
                for step, rows in enumerate(self._places(start, stop), start=start):
                    waiting.append(pool.submit(self._read, rows, coming(step)))
                    if len(waiting) > 2 * self.workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def whole_batch(self, step: int) -> Places:
        """The places of that step's batch, all processes' shares together."""
        number, within = divmod(step, self.steps_per_epoch)
        return self.order.epoch(number).batch(within, self.batch_size, 0, self.batch_size)

    def _places(self, start: int, stop: int) -> Iterator[Places]:
        epoch = None
        for step in range(start, stop):
            number, within = divmod(step, self.steps_per_epoch)
            if epoch is None or epoch.epoch != number:
                epoch = self.order.epoch(number)
            first = self.rank * self.own_size
            yield epoch.batch(within, self.batch_size, first, first + self.own_size)

    @contextlib.contextmanager
    def _ahead(self, stop: int) -> Iterator[Callable[[int], Sequence[Future[None]]]]:
        """What a step has to wait for: nothing, unless the corpus lies in a bucket."""
        if not self.corpus.is_far:
            yield lambda _: ()
            return
        with contextlib.ExitStack() as open_ones:
            ahead = [open_ones.enter_context(contextlib.closing(one)) for one in self._all_ahead(stop)]
            yield lambda step: [future for one in ahead for future in one.reach(step)]

    def _all_ahead(self, stop: int) -> Iterator[Ahead]:
        """One for the whole order, or for each part of which this process has tiles."""
        order, size, first = self.order, self.batch_size, self.rank * self.own_size
        if isinstance(order, Order):
            yield Ahead(self.corpus, order, size, stop, dense=self.dense, rank=self.rank, world=self.world)
            return
        # Of a part that several processes share each begins with its own blocks, as it would of the whole.
        world = max(1, self.world // order.shards)
        for part in parts_in(order.shards, size, first, first + self.own_size):
            own = size // order.shards
            yield Ahead(
                self.corpus, order.parts[part], own, stop, dense=self.dense, rank=self.rank % world, world=world
            )

    def _read(self, rows: Places, coming: Sequence[Future[None]] = ()) -> Batch:
        settle(coming)
        px, corpus = self.input_px, self.corpus
        image_NHWC = self._empty((len(rows), px, px, 3), np.uint8)
        for i, (slide, row, view) in enumerate(zip(rows.slide, rows.row, rows.view, strict=True)):
            image_NHWC.numpy()[i] = corpus.image(int(slide), int(row), int(view), px)
        first, *also = (self._targets(one, rows, place in self.dense) for place, one in enumerate(corpus.each))
        return Batch(image_NHWC, first.cls_ND, first.patch_NTD, first.scale_NT, rows.slide, tuple(also))

    def _targets(self, corpus: Corpus, rows: Places, dense: bool) -> Targets:
        """One teacher's."""
        n = len(rows)
        cls_ND = self._empty((n, corpus.width), np.float16)
        patch_NTD: Tensor | None = None
        scale_NT: Tensor | None = None
        places = rows.slide * corpus.views + rows.view
        for place in np.unique(places):
            at = np.flatnonzero(places == place)
            slide, view = divmod(int(place), corpus.views)
            reader, wanted = corpus.tokens[slide], rows.row[at]
            cls_ND.numpy()[at] = reader.cls(wanted)[:, view]
            if not dense:
                continue
            patch = reader.patch(wanted, view)
            if patch_NTD is None:
                patch_NTD = self._empty((n, *patch.shape[1:]), patch.dtype)
            patch_NTD.numpy()[at] = patch
            if patch.dtype == np.int8:
                if scale_NT is None:
                    scale_NT = self._empty((n, patch.shape[1]), np.float16)
                scale_NT.numpy()[at] = reader.scale(wanted, view)
        return Targets(cls_ND, patch_NTD, scale_NT)

    def _empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Tensor:
        """Memory for a part of a batch, to be filled through `.numpy()`."""
        return torch.empty(shape, dtype=_TORCH[np.dtype(dtype)], pin_memory=self.pin)
