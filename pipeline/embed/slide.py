"""One slide while its tiles are read and answered by several threads: what is left to do, and what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import SlideRefused
from pipeline.base.types import Recipe
from pipeline.embed.asked import Asked
from pipeline.embed.bands import bands, order
from pipeline.embed.claim import Claim, written
from pipeline.embed.encoders.encoder import Answers, Facts
from pipeline.embed.features import Features, SlideFacts
from pipeline.embed.stamps import Settings
from pipeline.embed.token_file import PatchTokens
from pipeline.slides.read.direct import DirectReader
from pipeline.slides.read.opening import open_slide
from pipeline.slides.read.reader import SlideReader
from pipeline.tiles.lost.losses import remarks
from pipeline.tiles.scores import sharpnesses
from pipeline.tiles.whole_slide import all_lost, choose_tiles

CACHE_NBYTES = 384 << 20
"""Decoded tiles of the slides, of all readers together."""


class Slide:
    """An open slide of N chosen tiles. `take` gives out portions of them; `answer` and `lose` say what became of each.

    Any thread may call these. `name` and `n` are for messages.
    """

    def __init__(self, asked: Asked, claim: Claim, stamp: Recipe, settings: Settings, encoder: Facts) -> None:
        """Its file is here, and `lease` keeps it here, where it is set, until `close`. Raises `SlideRefused`."""
        self.lease = ExitStack()
        self.asked, self.claim, self.name, self.settings = asked, claim, asked.name, settings
        self._stamp, self._encoder, self._lock = stamp, encoder, Lock()
        source, params = asked.source, settings.tiles
        with self.read() as reader:
            chosen = choose_tiles(reader, source, params)
            self._facts = SlideFacts(
                name=asked.name,
                where=source.where,
                below=asked.below,
                mpp_xy=reader.mpp_xy,
                levels=tuple((w, h, d) for (w, h), d in reader.own_levels),
                coords=source.coords,
            )
        self.tiles = chosen.without_picture()
        self.n, self._given = len(chosen), chosen.given
        self._min_sharpness = 0.0 if chosen.given else params.min_sharpness
        self._bands: Iterator[NDArray[np.int64]] = iter(())
        self._embedding_ND = np.empty((self.n, encoder.width), np.float32)
        self._kept_N, self._sharpest = np.ones(self.n, bool), 0.0
        self._lost: Counter[str] = Counter()
        self._left = self.n
        self._tokens = None if encoder.patch is None else claim.token_file(encoder.patch)
        self.error: SlideRefused | None = None

    def read(self, readers: int = 1) -> SlideReader:
        """A handle of the slide for one of so many readers."""
        params, source = self.settings.tiles, self.asked.source
        reader = open_slide(source.path, source.mpp, params.reader, reduced_dct=params.reduced_dct)
        if isinstance(reader, DirectReader):
            reader.cache_nbytes = CACHE_NBYTES // readers
        return reader

    def share_out(self, readers: int) -> None:
        """Make the portions for so many readers."""
        x_l0, y_l0 = self.tiles.choice.x_l0, self.tiles.choice.y_l0
        order_N = order(self.tiles.geometry, x_l0, y_l0, CACHE_NBYTES // readers)
        self._bands = bands(order_N, y_l0, readers)

    def take(self) -> NDArray[np.int64] | None:
        """The rows to read next; None where nothing is left, or the slide has failed."""
        with self._lock:
            return None if self.error else next(self._bands, None)

    def worth_answering(self, row_N: NDArray[np.int64], tile_NHWC: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which of the tiles that were read are to be answered, (N,); the others count as done."""
        score_N = sharpnesses(tile_NHWC) if self._min_sharpness else np.zeros(len(row_N))
        worth_N: NDArray[np.bool_] = score_N >= self._min_sharpness
        with self._lock:
            self._sharpest = max(self._sharpest, float(score_N.max()))
        for row in row_N[~worth_N].tolist():
            self.lose(row, "blurred")
        return worth_N

    def lose(self, row: int, why: str) -> None:
        """A tile that is not answered counts as done."""
        with self._lock:
            self._lost[why] += 1
            self._kept_N[row] = False
            self._left -= 1

    def answer(self, rows: Sequence[int], answers: Answers) -> None:
        """What the encoder says to those rows. Raises `EmbedError` where the disk has no room for patch tokens."""
        self._embedding_ND[rows] = answers.embedding_ND
        if self._tokens is not None:
            try:
                self._tokens.put(rows, answers.patch)
            except OSError as error:
                raise written(error, self.claim.finals[-1]) from error
        with self._lock:
            self._left -= len(rows)

    def fail(self, error: SlideRefused) -> None:
        """No more of it is given out."""
        with self._lock:
            self.error = self.error or error

    @property
    def complete(self) -> bool:
        """Whether every tile is answered or lost."""
        with self._lock:
            return self._left == 0

    def features(self) -> Features:
        """All of it, once complete. Raises `SlideRefused` where no tile is left, or one of a given tiling is lost."""
        if self._given and self._lost["damaged"]:
            what = f"{self._lost['damaged']} tiles of its coordinates do not decode, and the file wants a row for each"
            fix = "copy the slide again, or leave out --coords: its own grid goes without them"
            raise SlideRefused(what, where=self.name, fix=fix)
        dropped = {**self.tiles.choice.dropped, **self._lost}
        if not self._kept_N.any():
            raise all_lost({"damaged": 0, "blurred": 0, **dropped}, self._sharpest)
        choice, kept = self.tiles.choice, self._kept_N
        return Features(
            slide=self._facts,
            geometry=self.tiles.geometry,
            overlap_px=0 if self._given else self.settings.tiles.overlap_px,
            corner_N2=np.stack([choice.x_l0, choice.y_l0], axis=1)[kept],
            tissue_N=choice.tissue[kept].astype(np.float32),
            embedding_ND=self._embedding_ND if kept.all() else self._embedding_ND[kept],
            encoder=self._encoder,
            stands_for=self.settings.stands_for,
            stamp=self._stamp,
            patch=None if self._tokens is None else PatchTokens(self._tokens, np.flatnonzero(kept)),
        )

    def close(self) -> None:
        """Its files are written, or will not be."""
        if self._tokens is not None:
            self._tokens.close()
        self.claim.release()
        self.lease.close()

    @property
    def remarks(self) -> list[str]:
        """What a person should know of how it was tiled."""
        return remarks(int(self._kept_N.sum()), {**self.tiles.choice.dropped, **self._lost})
