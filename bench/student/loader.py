"""Whether the loader keeps the training busy, and what the index of a large corpus takes.

In one run, on a made corpus (`corpus`: JPEG tiles of 224 px, tokens of ViT-L's 196 x 1024 int8), rounds that take
turns:

    loader     batches alone, nothing is trained
    resident   training steps on one batch that stays on the device: tokens stay int8 until the step, as always
    fed        the same steps, each on the next batch of the loader

`ratio` is the median over the rounds of fed / resident, `ratio_low` to `ratio_high` its 95 % interval (bootstrap over
the rounds); what it lacks to 1 is what the loader costs the training. `ratio_cpu` is the same of CPU seconds, and
`…_cpu_ms_a_tile` are those of each kind: what the answers of several teachers (`--teachers`) cost stands there.

The loader prefetches, and goes on to do so through the last timed step, so that each timed step pays for reading one
batch. That holds where the loader alone is several times as fast as the training (its stock of batches is full before
and after); where it is not, ask for many more --steps than the 2 * workers + 1 batches it may have in stock.

Then a long run of the loader alone: `rss_growth_mb` is the growth of *anonymous* memory (/proc/self/smaps_rollup) from
the second tenth of it to the last. Pages of mapped files do not count: they are the page cache's, shared by all
processes and given back when memory is short.

What this does not cover: cold disks (the store was just written, so it is in the page cache), and network mounts.

Run: python -m bench.student.loader; --index 20000000 measures the order of that many rows over 2,000 slides instead.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.clock import Spent, clock, median, ratios, since
from bench.printing import finish, show
from bench.scratch import scratch
from bench.student.corpus import TILE_PX, make_corpus
from pipeline.base.arrays import ArrayWriter
from pipeline.base.intervals import interval
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.loader import Batch
from pipeline.corpus.order import Order
from pipeline.corpus.targets import cls_standardiser
from pipeline.params.student import StudentParams, TeachersParams
from pipeline.student.device import make_accelerator
from pipeline.student.loop import Training
from pipeline.student.losses import Losses
from pipeline.student.model import Head, add_heads, build
from pipeline.tiles.item.meta import OFFSETS_ARRAY
from pipeline.tiles.item.reader import TileReader

MIB = 1 << 20
DRAWS = 10_000
"""Resamples of the rounds."""


def anonymous_mb() -> float:
    """This process's memory that no file backs, MiB."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/smaps_rollup states no anonymous memory")


def training(corpus: Corpus, params: StudentParams, folder: Path) -> Training:
    """A training that is made as the stage makes it."""
    accelerator = make_accelerator()
    adapter = params.adapter if params.objective.patch > 0 else None
    settings: dict[str, Any] = {"model": params.model, "width": corpus.width, "grid": corpus.grid, "seed": 0}
    distiller, _ = build(input_px=TILE_PX, adapter=adapter, **settings)
    dense = adapter is not None and params.teachers.dense == "all"
    if heads := [Head(one.width, one.grid, dense) for one in corpus.also]:
        add_heads(distiller, heads, params.adapter, seed=0)
    losses = Losses(params, corpus, [cls_standardiser(one) for one in corpus.each], accelerator.device)
    return Training(distiller, corpus, params, losses=losses, folder=folder, accelerator=accelerator)


def steps_of(made: Training, batches: Iterator[Batch], steps: int, train: bool) -> Spent:
    """What so many steps take, after one that is not timed."""
    began = clock()
    for step in range(steps + 1):
        if step == 1:
            began = clock()
        batch = next(batches)
        if train:
            made.step(step, batch)
    return since(began)


def fed(made: Training, steps: int) -> Generator[Batch, None, None]:
    """The loader's batches for one untimed and so many timed steps, and beyond: it does not stop prefetching."""
    return made.loader.batches(0, 1 + steps + 2 * made.loader.workers + 1)


def compare(made: Training, rounds: int, steps: int) -> dict[str, float]:
    """The medians of all rounds."""
    # On the device: a GPU's copy of each batch is the loader's cost, which `fed` alone pays.
    resident = next(made.loader.batches(0, 1)).to(made.accelerator.device)
    taken: dict[str, list[Spent]] = {"loader": [], "resident": [], "fed": []}
    for number in range(rounds):
        with closing(fed(made, 8 * steps)) as source:
            taken["loader"].append(steps_of(made, source, 8 * steps, train=False))
        # Every other round the other way about, so that a machine that slows down favours neither.
        for kind in ("resident", "fed") if number % 2 else ("fed", "resident"):
            with closing(fed(made, steps) if kind == "fed" else _again(resident)) as source:
                taken[kind].append(steps_of(made, source, steps, train=True))
    tiles = {"loader": 8 * steps * made.loader.batch_size} | dict.fromkeys(
        ("resident", "fed"), steps * made.loader.batch_size
    )
    rates = {kind: [tiles[kind] / one.wall_s for one in each] for kind, each in taken.items()}
    by_round = [fed / resident for fed, resident in zip(rates["fed"], rates["resident"], strict=True)]
    rows = [(n, *(rates[kind][n] for kind in taken), ratio) for n, ratio in enumerate(by_round)]
    show("Tiles a second", ("round", *taken, "fed / resident"), rows)
    medians = np.median(np.random.default_rng(0).choice(by_round, (DRAWS, rounds)), axis=1)
    low, high = interval(medians)
    told = {f"{kind}_tiles_per_s": statistics.median(each) for kind, each in rates.items()}
    for kind, each in taken.items():
        told[f"{kind}_cpu_ms_a_tile"] = 1e3 * median(each).cpu_s / tiles[kind]
    told |= {"ratio": statistics.median(by_round), "ratio_low": low, "ratio_high": high}
    return told | {"ratio_cpu": ratios(taken["resident"], taken["fed"])["cpu"]}


def _again(batch: Batch) -> Generator[Batch, None, None]:
    while True:
        yield batch


def growth_mb(made: Training, steps: int) -> float:
    """Median of anonymous memory over the last tenth of so many batches less that over the second tenth, MiB.

    Medians, since what is in flight between two batches differs by parts of batches.
    """
    seen: list[list[float]] = [[] for _ in range(10)]
    for number, _ in enumerate(made.loader.batches(0, steps)):
        seen[number * 10 // steps].append(anonymous_mb())
    return statistics.median(seen[-1]) - statistics.median(seen[1])


def index(rows: int, slides: int, batch_size: int, folder: Path) -> dict[str, Any]:
    """Time and memory of one epoch's order over `rows` tiles of `slides` slides, and of starting in its middle."""
    counts = np.random.default_rng(0).multinomial(rows, np.random.default_rng(1).dirichlet(np.full(slides, 2.0)))
    counts = np.maximum(counts, 1)
    for slide, n in enumerate(counts):
        ArrayWriter(folder / str(slide) / OFFSETS_ARRAY, (n + 1,), n + 1, np.int64).write(0, np.arange(n + 1))
    before = anonymous_mb()
    readers = [TileReader(folder / str(slide)) for slide in range(slides)]
    mapped = sum(reader.offsets.nbytes for reader in readers)
    began = time.perf_counter()
    order = Order(counts.tolist(), block_rows=32, buffer_rows=4096, views=8, seed=0)
    epoch = order.epoch(0)
    made_s, peak = time.perf_counter() - began, anonymous_mb()
    began, checksum = time.perf_counter(), 0
    for start in range(0, order.total - batch_size + 1, batch_size):
        checksum += int(epoch.take(start, start + batch_size).row[0])
        if start % (1000 * batch_size) == 0:
            peak = max(peak, anonymous_mb())
    epoch_s = time.perf_counter() - began
    began = time.perf_counter()
    order.epoch(1).take(order.total // 2, order.total // 2 + batch_size)
    return {
        "rows": order.total,
        "slides": slides,
        "order_s": made_s,
        "epoch_s": epoch_s,
        "rows_per_s": order.total / epoch_s,
        "resume_ms": 1e3 * (time.perf_counter() - began),
        "anonymous_mb": max(peak, anonymous_mb()) - before,
        "mapped_mb": mapped / MIB,
        "checksum": checksum,
    }


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=int, metavar="ROWS", help="measure the order of so many rows instead")
    parser.add_argument("--slides", type=int, help="slides of the corpus: 20, or 2000 for --index")
    parser.add_argument("--tiles", type=int, default=100, help="tiles a slide")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--model", default="efficientvit_b0")
    parser.add_argument("--workers", type=int, default=StudentParams().workers)
    parser.add_argument("--teachers", type=int, default=1, help="whose answers the tiles have")
    parser.add_argument("--dense", choices=("all", "first"), default="all", help="whose patch tokens are read")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="timed training steps a round")
    parser.add_argument("--long", type=int, default=600, help="batches of the long run of the loader")
    parser.add_argument("--folder", type=Path, help="on the disk of interest (the system's temporary folder)")
    asked = parser.parse_args()
    with scratch(asked.folder) as temporary:
        if asked.index:
            figures = index(asked.index, asked.slides or 2000, asked.batch_size, temporary)
            show(f"An epoch's order over {asked.index:,} rows", ("", "found"), list(figures.items()))
        else:
            corpus = make_corpus(temporary, asked.slides or 20, asked.tiles, teachers=asked.teachers)
            params = StudentParams(
                model=asked.model,
                batch_size=asked.batch_size,
                workers=asked.workers,
                epochs=10_000,
                teachers=TeachersParams(dense=asked.dense),
            )
            made = training(corpus, params, temporary)
            made.model.train()
            threads = torch.get_num_threads()
            print(f"{asked.model}, {corpus.total} tiles, batch {asked.batch_size}, {threads} threads, device "
                  f"{made.accelerator.device}, {asked.workers} loader thread(s)")  # fmt: skip
            figures = compare(made, asked.rounds, asked.steps)
            figures["rss_growth_mb"] = growth_mb(made, asked.long)
    finish({name: round(value, 4) for name, value in figures.items()})


if __name__ == "__main__":
    main()
