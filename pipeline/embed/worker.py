"""One thread of a job: it reads portions of slides and answers them, its batches going on from portion to portion.

Some tiles are scored and fitted at a time: threads take turns at Python's lock, and each call into a library gives it
away and has to wait for it again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.base.errors import SlideRefused
from pipeline.cluster.refusals import of_slide
from pipeline.embed.encoders.encoder import Encoder
from pipeline.embed.queue import Portion, Queue
from pipeline.embed.slide import Slide
from pipeline.slides.read.reader import SlideReader
from pipeline.tiles.pixels import fit_squares

AT_ONCE = 8
"""Tiles that are fitted together: of 224 px 1.2 MB, which with what is made of them are still cached."""


class Worker:
    """Takes portions of `queue` until nothing is left; says of each how many tiles are `answered`, and has a slide
    `close`d where it answered the last of it."""

    def __init__(
        self,
        queue: Queue,
        encoder: Future[Encoder],
        answered: Callable[[Slide, int], None],
        close: Callable[[Slide], None],
    ) -> None:
        self._queue, self._load, self._answered, self._close = queue, encoder, answered, close
        self._resample = Image.Resampling.BICUBIC
        self._waiting: list[tuple[int, NDArray[np.uint8]]] = []
        self._rows: list[int] = []
        self._slide: Slide | None = None
        self._reader: SlideReader | None = None

    def run(self) -> None:
        """Until nothing is left."""
        try:
            while True:
                rows = self._slide.take() if self._slide is not None and not self._queue.stopped else None
                if rows is None:
                    self._leave()
                    portion = self._queue.next()
                    if portion is None:
                        return
                    self._enter(portion)
                    rows = portion.rows
                self._read(rows)
        except BaseException:
            self._queue.stop()
            raise
        finally:
            if self._reader is not None:
                self._reader.close()

    def _enter(self, portion: Portion) -> None:
        self._slide = portion.slide
        encoder = self._load.result()
        self._encoder, side = encoder, encoder.facts.input_px
        self._resample = Image.Resampling[encoder.facts.resample.upper()]
        self._batch_NHWC: NDArray[np.uint8] = np.empty((encoder.batch_size, side, side, 3), np.uint8)

    def _read(self, rows: NDArray[np.int64]) -> None:
        """The rows' tiles, each full batch answered; the rest waits for the next portion."""
        slide = self._slide
        assert slide is not None
        try:
            if self._reader is None:
                self._reader = slide.read(self._queue.workers)
            for tile in of_slide(slide.tiles.read(self._reader, rows)):
                if self._queue.stopped:
                    return
                if tile.tile_HWC is None:
                    slide.lose(tile.row, "damaged")
                    continue
                self._waiting.append((tile.row, tile.tile_HWC))
                if len(self._waiting) == AT_ONCE:
                    self._fit()
            self._answered(slide, len(rows))
        except SlideRefused as error:
            slide.fail(error)

    def _fit(self) -> None:
        """Into the batch go those of the tiles that were read that are worth it."""
        assert self._slide is not None
        row_N, tile_NHWC = np.array([row for row, _ in self._waiting]), np.stack([tile for _, tile in self._waiting])
        self._waiting = []
        worth_N = self._slide.worth_answering(row_N, tile_NHWC)
        if not worth_N.all():
            row_N, tile_NHWC = row_N[worth_N], tile_NHWC[worth_N]
        if len(row_N):
            fitted_NHWC = fit_squares(tile_NHWC, self._encoder.facts.input_px, self._resample)
            for row, image_HWC in zip(row_N.tolist(), fitted_NHWC, strict=True):
                self._batch_NHWC[len(self._rows)] = image_HWC
                self._rows.append(row)
                if len(self._rows) == self._encoder.batch_size:
                    self._flush()

    def _flush(self) -> None:
        assert self._slide is not None
        if self._rows:
            self._slide.answer(self._rows, self._encoder(self._batch_NHWC[: len(self._rows)]))
            self._rows = []

    def _leave(self) -> None:
        """Answer what is left of the slide, and write it where it was the last."""
        slide = self._slide
        if slide is None or self._queue.stopped:
            return
        if slide.error is None:
            if self._waiting:
                self._fit()
            self._flush()
        self._waiting, self._rows, self._slide = [], [], None
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if (slide.complete or slide.error is not None) and self._queue.close(slide):
            self._close(slide)
