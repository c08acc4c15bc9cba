"""Slides as a plan sees them: the header of each, and of a few what is found on them, how fast, in how many bytes.

A slide that nobody looks at is taken to have the looked-at ones' share of tissue. Folders of images count their images.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import nbytes_kept
from pipeline.base.errors import HistillError
from pipeline.base.store import Store
from pipeline.demo.slides import demo_mpp
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.slides.images import list_images
from pipeline.slides.read.opening import open_slide
from pipeline.slides.sources import Source, locate
from pipeline.slides.table import Row
from pipeline.tiles.grid import geometry_of, lay
from pipeline.tiles.whole_slide import choose_tiles

_TILES, _RUNS = 192, 16
"""Of one slide, that are read for their speed and size; in so many runs of neighbours, spread evenly over the slide,
since its parts differ and a stage reads neighbours together."""


@dataclass
class Look:
    """Of a slide: tiles of its whole grid, glass too, and of those with tissue, where it was looked at; then also what
    one of them takes, seconds of a core and bytes."""

    row: Row
    grid: int
    kept: int | None = None
    tile_s: float | None = None
    tile_nbytes: float | None = None


@dataclass
class Looks:
    """All slides whose header was read, and what was measured: seconds, each of one core."""

    slides: list[Look] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    unread: int = 0
    """Slides that time did not suffice for: they count as the mean of the others."""
    header_s: list[float] = field(default_factory=list)
    look_s_a_grid_tile: list[float] = field(default_factory=list)

    @property
    def read(self) -> list[Look]:
        """Those whose tiles were read."""
        return [look for look in self.slides if look.tile_s is not None]

    @property
    def tile_s(self) -> float:
        """Of a tile, in the mean over the tiles of the slides that were read."""
        return self._a_tile([(look.tile_s, look.kept) for look in self.slides])

    def jpeg_nbytes(self, limit: int | None) -> int:
        """Of the tiles of all slides, as they are kept; a slide that was not read has the mean of the others' tiles."""
        mean = self._a_tile([(look.tile_nbytes, look.kept) for look in self.slides])
        known = [nbytes_kept(round(self.tiles(look, limit) * (look.tile_nbytes or mean))) for look in self.slides]
        return round(sum(known) * (len(known) + self.unread) / max(1, len(known)))

    @property
    def tissue(self) -> float:
        """Share of grid tiles that are kept, of the slides that were looked at."""
        seen = [look for look in self.slides if look.kept is not None]
        return sum(look.kept or 0 for look in seen) / max(1, sum(look.grid for look in seen))

    @staticmethod
    def _a_tile(found: Sequence[tuple[float | None, int | None]]) -> float:
        known = [(value, n) for value, n in found if value is not None and n]
        return sum(value * n for value, n in known) / max(1, sum(n for _, n in known))

    def tiles(self, look: Look, limit: int | None) -> float:
        """Of one slide, as far as it is known."""
        n = look.grid * self.tissue if look.kept is None else look.kept
        return n if limit is None else min(n, limit)


def look_at(
    rows: Sequence[Row], table: Path, store: Store, slides: SlidesParams, tiles: TilesParams, seconds: float
) -> Looks:
    """Headers for a third of the seconds at most, then slides, evenly spread over the table, until they are over.

    At least one slide is looked at, whatever it takes. One that lies in a bucket is fetched to be looked at, and stays
    for the stages (slides/far.py); its fetching counts towards the seconds, and to no stage. A demo slide that is
    looked at is made in the store, where it is not there.
    """
    found, began = Looks(), time.monotonic()
    for row in rows:
        if found.slides and time.monotonic() - began > seconds / 3:
            found.unread += 1
            continue
        start = time.perf_counter()
        try:
            if row.demo is not None:
                found.slides.append(Look(row, _demo_grid(row.demo, slides, tiles)))
                continue
            source = locate(row, table, store, slides)
            with source.here():
                start = start if source.far is None else time.perf_counter()
                grid = _grid(source, tiles)
        except (HistillError, OSError) as error:
            found.refused[row.slide_id] = error.what if isinstance(error, HistillError) else str(error)
            continue
        found.header_s.append(time.perf_counter() - start)
        found.slides.append(Look(row, grid, grid if source.kind == "folder" else None))
    order = np.argsort([int(f"{i:032b}"[::-1], 2) for i in range(len(found.slides))])
    for i in order.tolist():
        if found.read and time.monotonic() - began > seconds:
            break
        look = found.slides[i]
        if look.kept is None:
            _measure(look, functools.partial(locate, look.row, table, store, slides), tiles, found)
    found.slides = [look for look in found.slides if look.row.slide_id not in found.refused]
    return found


def _grid(source: Source, tiles: TilesParams) -> int:
    """Tiles of the whole grid. Raises `SlideRefused`."""
    if source.kind == "folder":
        return len(list_images(source.path))
    with open_slide(source.path, source.mpp, tiles.reader, reduced_dct=tiles.reduced_dct) as reader:
        levels = [(w, h, d) for (w, h), d in zip(reader.level_dimensions, reader.level_downsamples, strict=True)]
        grid = lay(geometry_of(levels, reader.mpp_xy, tiles), tiles.edge)
    return len(grid.x_l0) * len(grid.y_l0)


def _demo_grid(number: int, slides: SlidesParams, tiles: TilesParams) -> int:
    """The same of a demo slide that need not be there."""
    side, mpp = slides.demo_px, demo_mpp(number)
    grid = lay(geometry_of([(side, side, 1.0)], (mpp, mpp), tiles), tiles.edge)
    return len(grid.x_l0) * len(grid.y_l0)


def _measure(look: Look, find: Callable[[], Source], tiles: TilesParams, found: Looks) -> None:
    """What is found on the slide, and how fast its tiles are read and encoded; refused where nothing is."""
    try:
        start = time.perf_counter()
        source = find()
        if look.row.demo is not None:
            found.header_s.append(time.perf_counter() - start)
        with (
            source.here() as path,
            open_slide(path, source.mpp, tiles.reader, reduced_dct=tiles.reduced_dct) as reader,
        ):
            start = time.perf_counter()
            chosen = choose_tiles(reader, source, tiles)
            found.look_s_a_grid_tile.append((time.perf_counter() - start) / max(1, look.grid))
            look.kept = len(chosen)
            rows = spread(len(chosen))
            start = time.perf_counter()
            cut = list(chosen.cut(reader, rows, tiles.jpeg_quality))
            look.tile_s = (time.perf_counter() - start) / max(1, len(rows))
    except HistillError as error:
        found.refused[look.row.slide_id] = error.what
        return
    whole = [tile for tile in cut if tile.jpeg is not None and tile.lost(tiles.min_sharpness) is None]
    look.kept = round(len(chosen) * len(whole) / max(1, len(cut)))
    if whole:
        look.tile_nbytes = float(np.mean([len(tile.jpeg or b"") for tile in whole]))


def spread(n: int) -> NDArray[np.int64]:
    """Which of n tiles are read: all of few."""
    if n <= _TILES:
        return np.arange(n)
    long = _TILES // _RUNS
    starts_N = np.linspace(0, n - long, _RUNS).round().astype(np.int64)
    return np.unique((starts_N[:, None] + np.arange(long)).ravel())
