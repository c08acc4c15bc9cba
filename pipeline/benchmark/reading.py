"""How long slides take to read here: the run's own, on all cores at once, as `histill embed` reads them.

Of each slide the look that finds its tissue, spread over its tiles; then some of its tiles, read and scored for
sharpness, each core reading a share of its own; then what makes a tile as large as a model takes it. Rounds take one
slide after another, so that what differs between slides shows in an interval. Opening a slide does not count.

Model and reading are timed apart and then put together (`whole_slides`). On a CPU both are the cores' work, and their
times add; on a GPU the cores read while it answers, and the longer counts. Writing the features does not count.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import HistillError, first_line
from pipeline.base.figures import NotMeasured
from pipeline.base.limits import usable_cores
from pipeline.base.progress import console
from pipeline.benchmark.contender import Contender
from pipeline.benchmark.results import MODELS, Role, WholeSlides
from pipeline.benchmark.speedup import best_batch, geometric
from pipeline.benchmark.turns import ROUNDS
from pipeline.cluster.refusals import about_slide
from pipeline.params.tiles import TilesParams
from pipeline.slides.read.opening import open_slide
from pipeline.slides.read.reader import SlideReader
from pipeline.slides.sources import Source
from pipeline.tiles.pixels import fit_square
from pipeline.tiles.scores import sharpness
from pipeline.tiles.whole_slide import Chosen, choose_tiles

TURN_S = 0.25
"""That each core reads for in a round; a run of neighbours at least."""
LEAST = 16
"""Tiles that each core reads in a round, where its share has so many."""


@dataclass
class Read:
    """By model the seconds that a tile takes the cores together, a round each; how many slides and tiles were read."""

    seconds_R: dict[Role, list[float]] = field(default_factory=lambda: {name: [] for name in MODELS})
    slides: int = 0
    tiles: int = 0


def read_slides(
    slides: Sequence[Source], params: TilesParams, sides_px: Mapping[Role, int], turn_s: float = TURN_S
) -> Read | NotMeasured:
    """Read of `slides`, the input sides of both models being `sides_px`; why not, where there is none to read."""
    waiting = [source for source in slides if source.kind != "folder"]
    if not waiting:
        what = "the run's images are in folders" if slides else "none of the run's slides is here"
        return NotMeasured(why=what)
    found, cores, why = Read(), usable_cores(), ""
    seen: dict[str, tuple[Chosen, float]] = {}
    for i in range(2 * ROUNDS):
        if len(found.seconds_R["student"]) == ROUNDS or not waiting:
            break
        source = waiting[i * max(1, len(waiting) // ROUNDS) % len(waiting)]
        try:
            if source.slide_id not in seen:
                seen[source.slide_id] = _looked(source, params)
            chosen, look_s = seen[source.slide_id]
            taken = _round(source, params, chosen, sides_px, turn_s, cores)
        except Exception as raised:
            # What the tiles stage could read, and this cannot, is one slide fewer.
            error = about_slide(raised, source.slide_id)
            if not isinstance(error, HistillError):
                raise
            why = first_line(error)
            waiting.remove(source)
            continue
        for name in MODELS:
            a_tile_s = float(np.mean([one.seconds[name] for one in taken])) + look_s / len(chosen)
            found.seconds_R[name].append(a_tile_s / cores)
        found.tiles += sum(one.tiles for one in taken)
    found.slides = len(seen)
    return found if found.tiles else NotMeasured(why=f"no slide could be read: {why}")


def whole_slides(
    slide_tiles: int, contenders: Sequence[Contender], read: Read | NotMeasured
) -> Mapping[Role, WholeSlides] | NotMeasured:
    """Slides an hour, reading included, of each model in the fastest cell that it has, a slide of `slide_tiles`."""
    if isinstance(read, NotMeasured):
        return read
    made = dict[Role, WholeSlides]()
    for name in MODELS:
        timed = [contender for contender in contenders if contender.spec.model == name and contender.rows]
        fastest = max(timed, key=lambda contender: contender.cell.best.tiles_per_s)
        batch, cell = best_batch(fastest.rounds), fastest.cell
        model_R = np.array([float(np.median(passes)) / batch for passes in fastest.rounds[batch]])
        # Rounds vary about the throughput that the cell states, so that with reading it is never more.
        model_R *= np.exp(-np.log(model_R).mean()) / cell.best.tiles_per_s
        n = min(len(model_R), len(read.seconds_R[name]))
        read_R = np.array(read.seconds_R[name])
        both_R = np.maximum(model_R[:n], read_R[:n]) if cell.device == "cuda" else model_R[:n] + read_R[:n]
        made[name] = WholeSlides(
            engine=cell.engine,
            precision=cell.precision,
            device=cell.device,
            an_hour=geometric(-np.log(both_R), 3600 / slide_tiles),
            reading_ms=1e3 * float(read_R.mean()),
            model_ms=1e3 / cell.best.tiles_per_s,
            slides=read.slides,
            tiles=read.tiles,
        )
        console.print(
            f"benchmark: {name}, {cell.engine}: {made[name].an_hour.value:.3g} slides an hour, reading included",
            soft_wrap=True,
        )
    return made


@dataclass(frozen=True)
class _Taken:
    """One core's share: seconds a tile by model, of so many tiles."""

    seconds: Mapping[Role, float]
    tiles: int


def _looked(source: Source, params: TilesParams) -> tuple[Chosen, float]:
    """Which tiles a slide has, and how long that took."""
    with _open(source, params) as reader:
        began = time.perf_counter()
        chosen = choose_tiles(reader, source, params).without_picture()
        return chosen, time.perf_counter() - began


def _round(
    source: Source, params: TilesParams, chosen: Chosen, sides_px: Mapping[Role, int], turn_s: float, cores: int
) -> list[_Taken]:
    """What each core took for its share of the slide, all at once."""
    shares = [share for share in np.array_split(np.arange(len(chosen)), cores) if len(share)]

    def take(row_M: NDArray[np.int64]) -> _Taken:
        with _open(source, params) as reader:
            return _take(reader, chosen, row_M, sides_px, turn_s)

    with ThreadPoolExecutor(cores) as pool:
        return list(pool.map(take, shares))


def _take(
    reader: SlideReader, chosen: Chosen, row_M: NDArray[np.int64], sides_px: Mapping[Role, int], turn_s: float
) -> _Taken:
    # How a level is read is found out at its first read, once a slide.
    reader.exact(chosen.geometry.level)
    tiles, n, began = list[NDArray[np.uint8]](), 0, time.perf_counter()
    for tile in chosen.read(reader, row_M):
        n += 1
        if tile.tile_HWC is not None:
            sharpness(tile.tile_HWC)
            tiles.append(tile.tile_HWC)
        if n >= LEAST and time.perf_counter() - began > turn_s:
            break
    read_s, seconds = (time.perf_counter() - began) / n, dict[Role, float]()
    for name, side_px in sides_px.items():
        began = time.perf_counter()
        for tile_HWC in tiles[:LEAST]:
            fit_square(tile_HWC, side_px)
        seconds[name] = read_s + (time.perf_counter() - began) / max(1, len(tiles[:LEAST]))
    return _Taken(seconds, n)


@contextmanager
def _open(source: Source, params: TilesParams) -> Iterator[SlideReader]:
    with (
        source.here() as path,
        open_slide(path, source.mpp, params.reader, reduced_dct=params.reduced_dct) as reader,
    ):
        yield reader
