"""One stream with no bubbles: a batch's way to the device, through the teacher and back, while others are on theirs.

On a GPU three CUDA streams work at once: uint8 images from page-locked memory go in on one, the teacher and the
epilogue run on another, and what is stored comes back into page-locked memory on the third. The next batch is launched
before the last one is fetched, and nothing between two launches waits for the device. On a CPU the same code runs with
plain tensors, where a launch is the work itself. On a GPU not measured.

Shapes: B tiles a batch, S = the teacher's side, V views.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from pipeline.teachers.engines import Engine
from pipeline.teachers.engines.base import within_memory
from pipeline.tokens.item.encoding import Encoded, Finish, all_views, on_host
from pipeline.tokens.run.batches import Batch, P
from pipeline.tokens.run.spent import Marks, Spent

_IN_FLIGHT = 2
"""Batches launched and not yet fetched."""

Views = Callable[[Batch[P], Tensor], Iterator[Tensor]]
"""The images of every view of a batch that is on the device, (B, S, S, 3) uint8 each."""


@dataclass
class _Launched(Generic[P]):
    batch: Batch[P]
    encoded: Encoded
    marks: tuple[Marks, Marks]
    done: torch.cuda.Event | None


class Stream(Generic[P]):
    """Runs batches through an engine; `spent` takes what each phase took (see `answers`)."""

    def __init__(self, engine: Engine, views: Views[P], finish: Finish, spent: Spent) -> None:
        self._engine, self._views, self._finish, self._spent = engine, views, finish, spent
        self._cuda = engine.device.type == "cuda"
        if self._cuda:
            self._in, self._out = (torch.cuda.Stream(engine.device) for _ in range(2))  # type: ignore[no-untyped-call]

    def answers(self, batches: Iterable[Batch[P]]) -> Iterator[tuple[Batch[P], Encoded]]:
        """Each batch with what is stored of it, on the host, in order; rows of no tile included.

        `spent` gets `waiting` (for decoded tiles), `copy`, `forward`, `epilogue` and `fetch` (on a GPU the first three
        by its own clock). Raises `TeacherError` where the device's memory does not hold a batch.
        """
        launched: deque[_Launched[P]] = deque()
        source = iter(batches)
        while True:
            with self._spent.during("waiting"):
                batch = next(source, None)
            if batch is not None:
                launched.append(self._launch(batch))
            elif not launched:
                return
            if batch is None or len(launched) == _IN_FLIGHT:
                yield self._fetch(launched.popleft())

    @torch.inference_mode()
    def _launch(self, batch: Batch[P]) -> _Launched[P]:
        with within_memory(len(batch.image_BSSC), self._engine.device):
            with self._lane("in"):
                arrival = Marks(self._engine.device)
                image_BSSC = batch.image_BSSC.to(self._engine.device, non_blocking=True)
                arrival.end("copy")
            self._hand_over("in", [image_BSSC])
            marks, views = Marks(self._engine.device), []
            for view_BSSC in self._views(batch, image_BSSC):
                marks.end("views")
                raw = self._engine(view_BSSC)
                marks.end("forward")
                views.append(self._finish(raw))
                marks.end("epilogue")
            encoded = all_views(views)
            self._hand_over("out", [value for value in encoded if value is not None])
            with self._lane("out"):
                host = on_host(encoded)
                done = torch.cuda.current_stream().record_event() if self._cuda else None
        return _Launched(batch, host, (arrival, marks), done)

    def _fetch(self, launched: _Launched[P]) -> tuple[Batch[P], Encoded]:
        if launched.done is not None:
            with self._spent.during("fetch"):
                launched.done.synchronize()
        for marks in launched.marks:
            marks.settle(self._spent)
        self._spent.add("decode", launched.batch.decode_s)
        return launched.batch, launched.encoded

    def _lane(self, which: str) -> contextlib.AbstractContextManager[object]:
        if not self._cuda:
            return contextlib.nullcontext()
        return torch.cuda.stream(self._in if which == "in" else self._out)

    def _hand_over(self, which: str, values: list[Tensor]) -> None:
        """The next lane starts where `values` are ready, and their memory is not given away before it has read them."""
        if not self._cuda:
            return
        compute = torch.cuda.current_stream(self._engine.device)
        before, after = (self._in, compute) if which == "in" else (compute, self._out)
        after.wait_stream(before)
        for value in values:
            value.record_stream(after)
