"""One slide whose answers are coming in: its partial folder in the store, its missing chunks, and their rows so far.

Chunks are written whole, in order; the folder is committed after the last. A slide that is left unfinished keeps its
finished chunks for the next run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.base.errors import HistillError
from pipeline.base.items import TilesItem
from pipeline.base.types import Array
from pipeline.teachers.statistics import Calibration
from pipeline.tiles.item.reader import TileReader
from pipeline.tokens.item.writer import TokenWriter
from pipeline.tokens.job import Job
from pipeline.views import write_fields

Answers = tuple[Array | None, ...]
"""The same rows of cls (N, V, D), patch (N, V, T, D) and scale (N, V, T); None where the layout has none."""


@dataclass(frozen=True, slots=True)
class SlidePlace:
    """A tile of a slide in progress: its row, and the chunk of the tokens that it goes to."""

    slide: SlideInProgress
    chunk: int
    row: int

    @property
    def reader(self) -> TileReader:
        return self.slide.reader


class SlideInProgress:
    """Holds the slide's partial folder from its making to `commit`, `refuse` or `abandon`."""

    def __init__(
        self,
        item: TilesItem,
        job: Job,
        grid: tuple[int, int],
        width: int,
        frozen: Calibration | None,
        reader: TileReader,
    ) -> None:
        """Raises `CorruptItem` where the tiles cannot be read, and what the store raises."""
        self.item, self.reader = item, reader
        self.refused = False
        n = len(reader)
        self._folder = contextlib.ExitStack()
        folder = self._folder.enter_context(job.store.write(job.ref(item.key), job.recipe, resume=True))
        try:
            write_fields(folder, job.params, item.key, n, job.tile_px)
            self._writer = TokenWriter(folder, n, job.params.n_views, grid, width, frozen, job.params.patch)
            self._missing = dict(self._writer.missing())
        except BaseException as error:
            raise self.abandon(error) from None
        self.n_cached = n - sum(len(rows) for rows in self._missing.values())
        self._chunks_left = len(self._missing)
        self._coming: dict[int, tuple[int, Answers]] = {}

    @property
    def complete(self) -> bool:
        """Whether every chunk is written."""
        return self._chunks_left == 0

    def places(self) -> Iterator[SlidePlace]:
        """The tiles to ask the teacher about, in order; none after a refusal."""
        for chunk, rows in self._missing.items():
            for row in rows:
                if self.refused:
                    return
                yield SlidePlace(self, chunk, row)

    def add(self, chunk: int, values: Answers) -> None:
        """The next rows of a chunk, copied; writes the chunk with its last. Raises what writing raises."""
        n, whole = next(len(value) for value in values if value is not None), len(self._missing[chunk])
        if n < whole:
            filled, buffers = self._coming.pop(chunk, (0, ()))
            if not buffers:
                buffers = tuple(v if v is None else np.empty((whole, *v.shape[1:]), v.dtype) for v in values)
            for buffer, value in zip(buffers, values, strict=True):
                if buffer is not None and value is not None:
                    buffer[filled : filled + n] = value
            if filled + n < whole:
                self._coming[chunk] = filled + n, buffers
                return
            values = buffers
        cls_NVD, patch_NVTD, scale_NVT = values
        assert cls_NVD is not None
        self._writer.write(chunk, cls_NVD, patch_NVTD, scale_NVT)
        self._chunks_left -= 1

    def commit(self) -> None:
        """Make the slide's tokens an item of the store."""
        self._folder.close()

    def refuse(self, error: HistillError) -> None:
        """Give the slide up, and only it."""
        self.refused = True
        self.abandon(error)
        self._coming.clear()

    def abandon(self, error: BaseException) -> BaseException:
        """Let go of the folder, finished chunks kept; the error as the store reads it (a full disk is `StoreFull`)."""
        try:
            self._folder.__exit__(type(error), error, error.__traceback__)
        except HistillError as read:
            return read
        return error
