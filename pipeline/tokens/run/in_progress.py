"""One slide whose answers are coming in: its partial folder in the store, its missing chunks, and their rows so far.

Chunks are written whole; the folder is committed after the last. A slide that is left unfinished keeps its finished
chunks for the next run. Rows that other items have (answered.py) are copied: into a chunk with its first row that comes
in, or where none has to come, as a whole (`copy`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import HistillError
from pipeline.base.items import TilesItem
from pipeline.base.types import Array
from pipeline.teachers.statistics import Calibration
from pipeline.teachers.teacher import Teacher
from pipeline.tiles.item.content import NOWHERE, Found, hex_of
from pipeline.tiles.item.reader import TileReader
from pipeline.tokens.item.attributes import place_arrays, told
from pipeline.tokens.item.writer import TokensForm, TokenWriter
from pipeline.tokens.job import Job
from pipeline.tokens.recipe import DRAWN_BY
from pipeline.views import Place, fields_array

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

    @property
    def drawn_by(self) -> Place:
        """What the tile's views are drawn by."""
        return self.slide.drawn_by(self.row)


@dataclass
class _Chunk:
    """A missing chunk: its rows, those of them that the teacher is asked about, and what is there so far."""

    rows: range
    asked: NDArray[np.int64]
    filled: int = 0
    """Of those that are asked about."""
    values: Answers = ()


class SlideInProgress:
    """Holds the slide's partial folder from its making to `commit`, `refuse` or `abandon`."""

    def __init__(
        self,
        item: TilesItem,
        job: Job,
        teacher: Teacher,
        frozen: Calibration | None,
        reader: TileReader,
        known: Found | None = None,
    ) -> None:
        """Raises `CorruptItem` where the tiles cannot be read, and what the store raises, `BeingWritten` too."""
        self.item, self.reader = item, reader
        self._answered, self._known = job.answered, known
        self._content = hex_of(reader.digests) if DRAWN_BY in job.recipe else None
        self.refused = False
        n = len(reader)
        self._folder = contextlib.ExitStack()
        folder = self._folder.enter_context(job.store.write(job.ref(item.key), job.recipe, resume=True, alone=True))
        try:
            form = TokensForm(n, job.params.n_views, teacher.grid, teacher.width, job.params.patch)
            fields = fields_array(job.params, self.drawn_by, n, job.tile_px)
            self._writer = TokenWriter(folder, form, frozen, fields | place_arrays(reader), told(job.recipe, reader))
            self._missing = {chunk: _Chunk(rows, self._asked(rows)) for chunk, rows in self._writer.missing()}
        except BaseException as error:
            raise self.abandon(error) from None
        self.n_cached = n - sum(len(chunk.asked) for chunk in self._missing.values())
        self._chunks_left = len(self._missing)

    @property
    def complete(self) -> bool:
        """Whether every chunk is written."""
        return self._chunks_left == 0

    @property
    def copies(self) -> bool:
        """Whether there are chunks of which no row has to come in."""
        return any(not len(chunk.asked) for chunk in self._missing.values())

    def drawn_by(self, row: int) -> Place:
        """What the views of a row are drawn by."""
        return (self.item.key, row) if self._content is None else (self._content[row], 0)

    def places(self) -> Iterator[SlidePlace]:
        """The tiles to ask the teacher about, in order; none after a refusal."""
        for number, chunk in self._missing.items():
            for row in chunk.asked.tolist():
                if self.refused:
                    return
                yield SlidePlace(self, number, row)

    def copy(self) -> None:
        """Write the chunks of which other items have all rows. Raises what reading and writing raises."""
        for number, chunk in self._missing.items():
            if not len(chunk.asked):
                self._write(number, self._copied(chunk, ()))

    def add(self, number: int, values: Answers) -> None:
        """The next rows of a chunk, copied; writes the chunk with its last. Raises what reading and writing raises."""
        n, chunk = next(len(value) for value in values if value is not None), self._missing[number]
        if n < len(chunk.rows):
            if not chunk.filled:
                chunk.values = self._copied(chunk, _room(len(chunk.rows), values))
            _put(chunk.values, chunk.asked[chunk.filled : chunk.filled + n] - chunk.rows.start, values)
            chunk.filled += n
            if chunk.filled < len(chunk.asked):
                return
            values, chunk.values = chunk.values, ()
        self._write(number, values)

    def commit(self) -> None:
        """Make the slide's tokens an item of the store."""
        self._writer.close()
        self._folder.close()

    def refuse(self, error: HistillError) -> None:
        """Give the slide up, and only it."""
        self.refused = True
        self.abandon(error)
        for chunk in self._missing.values():
            chunk.values = ()

    def abandon(self, error: BaseException) -> BaseException:
        """Let go of the folder, finished chunks kept; the error as the store reads it (a full disk is `StoreFull`)."""
        try:
            self._folder.__exit__(type(error), error, error.__traceback__)
        except HistillError as read:
            return read
        return error

    def _asked(self, rows: range) -> NDArray[np.int64]:
        """Those of a chunk's rows that no other item has."""
        every = np.arange(rows.start, rows.stop)
        return every if self._known is None else every[~self._known.there[rows.start : rows.stop]]

    def _copied(self, chunk: _Chunk, into: Answers) -> Answers:
        """A chunk's values with the rows of other items put `into` them; made where there are none.

        Raises `CorruptItem` where one of these items has gone meanwhile.
        """
        if self._known is None:
            return into
        source_W, row_W = (
            all_W[chunk.rows.start : chunk.rows.stop] for all_W in (self._known.source_W, self._known.row_W)
        )
        for source in np.unique(source_W[source_W != NOWHERE]).tolist():
            at = np.flatnonzero(source_W == source)
            values = self._answered.reader(self._known.sources[source]).stored(row_W[at])
            into = into or _room(len(chunk.rows), values)
            _put(into, at, values)
        return into

    def _write(self, number: int, values: Answers) -> None:
        cls_NVD, patch_NVTD, scale_NVT = values
        assert cls_NVD is not None
        self._writer.write(number, cls_NVD, patch_NVTD, scale_NVT)
        self._chunks_left -= 1


def _room(n: int, values: Answers) -> Answers:
    """Arrays of n rows, not filled, for values like these."""
    return tuple(value if value is None else np.empty((n, *value.shape[1:]), value.dtype) for value in values)


def _put(into: Answers, at: NDArray[np.int64], values: Answers) -> None:
    """Put values at these rows."""
    for room, value in zip(into, values, strict=True):
        if room is not None and value is not None:
            room[at] = value
