"""Results scattered back to their slides by a thread of their own, which writes whole chunks; others commit.

Neither writing nor the checksums and syncs of a commit hold the teacher up, unless the disk is slower than it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import CorruptItem, HistillError, SlideRefused, SlideUnavailable, TeacherError
from pipeline.base.items import TilesItem
from pipeline.tokens.item.encoding import Encoded
from pipeline.tokens.job import Outcome
from pipeline.tokens.run.batches import Batch
from pipeline.tokens.run.in_progress import SlideInProgress, SlidePlace

_COMMITTING = 4
"""Commits at a time: each waits for the disk a dozen times, and the disk takes several at once."""
_UNCOMMITTED = 2 * _COMMITTING
"""Complete slides that may wait for their commit or be in it: where the disk is slower than the teacher, slides are
finished before more are begun, so that a disk that fills up holds whole slides and not pieces of all."""
MADE_AGAIN = "`histill store verify` says which folder of the store to delete; then: dvc repro -f -s tiles"
_WAITING = 3
"""Batches whose results may wait to be written."""

Progress = Callable[[int, str, bool], None]
"""Called with tiles that are done, their slide's id, and whether the store had them already."""


class Collector:
    """Takes batches' results; `outcome` gets the tiles that are done and the slides that were given up.

    Its `spent` gets `write` and `commit` (of their threads), `writer full` and `finish` (of the caller's). With
    `strict` the first slide that would be refused ends the run.
    """

    def __init__(self, outcome: Outcome, progress: Progress, strict: bool) -> None:
        self._outcome, self._spent, self._progress, self._strict = outcome, outcome.spent, progress, strict
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._committer = ThreadPoolExecutor(_COMMITTING, thread_name_prefix="commit")
        self._writing: deque[Future[None]] = deque()
        self._committing: deque[Future[None]] = deque()
        self._uncommitted = threading.Semaphore(_UNCOMMITTED)

    def put(self, batch: Batch[SlidePlace], encoded: Encoded) -> None:
        """Hand a batch over. Raises what writing or committing earlier ones raised."""
        self._writing.append(self._writer.submit(self._take, batch, encoded))
        with self._spent.during("writer full"):
            while len(self._writing) > _WAITING or (self._writing and self._writing[0].done()):
                self._writing.popleft().result()
        while self._committing and self._committing[0].done():
            self._committing.popleft().result()

    def finish(self) -> None:
        """Wait for everything. Raises what it raised."""
        with self._spent.during("finish"):
            for waiting in (self._writing, self._committing):
                while waiting:
                    waiting.popleft().result()

    def close(self) -> None:
        """Stop the threads; what has not begun is dropped."""
        for thread in (self._writer, self._committer):
            thread.shutdown(cancel_futures=True)

    def commit(self, slide: SlideInProgress) -> None:
        """Commit a complete slide in the background; waits while too many are to be committed."""
        self._uncommitted.acquire()
        self._committing.append(self._committer.submit(self._commit, slide))

    def copy(self, slide: SlideInProgress) -> None:
        """Write in the background what other items have of a slide, by the thread that writes all else of it."""
        self._writing.append(self._writer.submit(self._copy, slide))

    def refuse(self, item: TilesItem, error: HistillError) -> None:
        """Count a slide as refused: for what its tiles are, or what may pass. Raises where that ends the run."""
        if not isinstance(error, SlideRefused | CorruptItem):
            raise error
        kind, fix = (SlideUnavailable, MADE_AGAIN) if isinstance(error, CorruptItem) else (type(error), error.fix)
        refused = kind(error.what, where=item.id, fix=fix)
        refused.trace = error.trace
        self._outcome.refused[item.key] = refused
        if self._strict:
            raise refused from error

    def _commit(self, slide: SlideInProgress) -> None:
        try:
            with self._spent.during("commit"):
                slide.commit()
        finally:
            self._uncommitted.release()

    def _copy(self, slide: SlideInProgress) -> None:
        began = time.perf_counter()
        if not slide.refused:
            try:
                slide.copy()
            except CorruptItem as error:
                self._lost(slide, error)
            else:
                if slide.complete:
                    self.commit(slide)
        self._spent.add("write", time.perf_counter() - began)

    def _lost(self, slide: SlideInProgress, error: CorruptItem) -> None:
        """An item of which rows are copied has gone or was damaged since it was looked at."""
        fix = "dvc repro -f -s tokens"
        gone = SlideUnavailable(f"the tokens that its rows are copied from: {error.what}", where=error.where, fix=fix)
        slide.refuse(gone)
        self.refuse(slide.item, gone)

    def _take(self, batch: Batch[SlidePlace], encoded: Encoded) -> None:
        """One batch: each slide's rows of each chunk to where they belong."""
        began = time.perf_counter()
        finite_NV = encoded.finite_N.numpy()
        arrays = tuple(value if value is None else value.numpy() for value in encoded[:3])
        indices = itertools.groupby(
            range(len(batch.places)), lambda i: (id(batch.places[i].slide), batch.places[i].chunk)
        )
        for _, group in indices:
            own = list(group)
            first, stop = own[0], own[-1] + 1
            slide, chunk = batch.places[first].slide, batch.places[first].chunk
            bad = next((batch.errors[i] for i in own if i in batch.errors), None)
            if bad is not None and not slide.refused:
                slide.refuse(bad)
                self.refuse(slide.item, bad)
            if slide.refused:
                continue
            _require_finite(batch, finite_NV, first, stop)
            try:
                slide.add(chunk, tuple(value if value is None else value[first:stop] for value in arrays))
            except CorruptItem as error:
                self._lost(slide, error)
                continue
            self._outcome.tiles += len(own)
            self._progress(len(own), slide.item.id, False)
            if slide.complete:
                self.commit(slide)
        self._spent.add("write", time.perf_counter() - began)


def _require_finite(batch: Batch[SlidePlace], finite_NV: NDArray[np.bool_], first: int, stop: int) -> None:
    """Raises `TeacherError` that names the slide, the rows and the view."""
    wrong_NV = ~finite_NV[first:stop]
    if wrong_NV.any():
        rows = [batch.places[first + int(i)].row for i in np.flatnonzero(wrong_NV.any(1))]
        where = f"{batch.places[first].slide.item.id}, rows {rows[0]}-{rows[-1]}"
        what = f"the teacher answers NaN, inf or beyond float16 for {len(rows)} tiles"
        fix = "try `tokens.precision: fp32`; check the weights"
        raise TeacherError(f"{what} (view {int(np.flatnonzero(wrong_NV.any(0))[0])})", where=where, fix=fix)
