"""How close the token arrays come to plain files: whole chunks written, and the loader's two ways of reading.

    write           the chunks through ArrayWriter, against one flat file written in pieces of the same size; neither is
                    synced (the store syncs an item once, when it is committed), both are new files
    random          256 rows anywhere, against np.memmap of the flat file, and against zarr's own oindex
    block-shuffled  8 blocks of 32 neighbouring rows, in random order: what the loader asks for; the same two

One array: N x T x D int8, in chunks as the tokens stage cuts them. Contenders take turns, each figure is the median of
`--repeats` rounds, and the page cache is warm: what this does not cover is a cold disk, or a network's. What is read is
compared before anything is timed.

Run: python -m bench.tokens.arrays [--rows N] [--folder DIR]; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from bench.clock import Spent, median, ratios, turns
from bench.printing import finish, show
from bench.scratch import scratch
from pipeline.base.arrays import ArrayWriter, MappedArray
from pipeline.tokens.item.writer import chunk_rows

TOKENS, WIDTH = 196, 1024
ROW_NBYTES = TOKENS * WIDTH
BATCH_ROWS, BLOCK_ROWS = 256, 32
BATCHES = 4
"""Batches a round; oindex reads whole chunks for each and gets one."""

Rows = NDArray[np.int64]


def main() -> None:
    """Write, compare, read, print."""
    parser = argparse.ArgumentParser(description="Token arrays against plain files.")
    parser.add_argument("--rows", type=int, default=4096, help="rows of 200 KB (4096: 0.8 GB, twice)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="on the disk of interest (the system's temporary folder)")
    options = parser.parse_args()
    with scratch(options.folder) as folder:
        figures = bench(folder, max(options.rows, BATCH_ROWS), options.repeats)
    rows = [
        (
            f"{name}, {unit}",
            figure.ours,
            figure.plain,
            figure.plain_over_ours["wall"],
            figure.plain_over_ours["cpu"],
        )
        + ((figure.oindex, figure.oindex_over_ours) if figure.oindex else ("", ""))
        for name, unit, figure in ((name, "GB/s" if name == "write" else "rows/s", f) for name, f in figures.items())
    ]
    columns = ("", "arrays", "plain file", "times as fast", "by CPU seconds", "oindex", "times as fast")
    show(f"Token arrays against plain files, medians of {options.repeats} rounds", columns, rows)
    finish(summary(figures) | {"rows": max(options.rows, BATCH_ROWS), "repeats": options.repeats})


@dataclass(frozen=True)
class Figure:
    """What one way of writing or reading reaches: GB/s or rows/s; ratios of the seconds, so that more is better."""

    ours: float
    plain: float
    plain_over_ours: dict[str, float]
    oindex: float | None = None
    oindex_over_ours: float | None = None


def bench(folder: Path, n: int, repeats: int) -> dict[str, Figure]:
    """The figure of `write`, `random` and `block-shuffled`."""
    rng = np.random.default_rng(0)
    rows = chunk_rows(n, "int8", 1, TOKENS, WIDTH)
    chunk_NTD = rng.integers(-127, 128, (rows, TOKENS, WIDTH), np.int8)
    array, flat = folder / "array", folder / "flat"
    writers = {"ours": partial(write_array, array, chunk_NTD, n), "plain": partial(write_flat, flat, chunk_NTD, n)}
    figures = {"write": _figure(turns(writers, repeats), n * ROW_NBYTES / 1e9)}

    mapped = MappedArray(array)
    plain = np.memmap(flat, np.int8, "r", shape=(n, TOKENS, WIDTH))
    slow = zarr.open_array(str(array), mode="r")
    for name, draw in (("random", random_rows), ("block-shuffled", shuffled_blocks)):
        batches = [draw(rng, n) for _ in range(BATCHES)]
        expected = plain[batches[0]]
        if not all(np.array_equal(got, expected) for got in (mapped.take(batches[0]), slow.oindex[batches[0]])):
            raise SystemExit(f"{name}: the contenders read different bytes")
        readers = {
            "ours": partial(_each, mapped.take, batches),
            "plain": partial(_each, plain.__getitem__, batches),
            "oindex": partial(_each, slow.oindex.__getitem__, batches[:1]),
        }
        figures[name] = _figure(turns(readers, repeats), BATCHES * BATCH_ROWS)
    return figures


def _each(read: Callable[[Rows], object], batches: list[Rows]) -> None:
    for rows in batches:
        read(rows)


def _figure(taken: dict[str, list[Spent]], amount: float) -> Figure:
    """Of what each contender took for `amount`; oindex has one batch of `BATCHES`."""
    ours, plain = amount / median(taken["ours"]).wall_s, amount / median(taken["plain"]).wall_s
    over = ratios(taken["plain"], taken["ours"])
    if "oindex" not in taken:
        return Figure(ours, plain, over)
    oindex = amount / BATCHES / median(taken["oindex"]).wall_s
    return Figure(ours, plain, over, oindex, round(ours / oindex, 1))


def summary(figures: dict[str, Figure]) -> dict[str, float]:
    """The ratios of the last line."""
    write, random, blocks = figures["write"], figures["random"], figures["block-shuffled"]
    return {
        "write_ratio": write.plain_over_ours["wall"],
        "write_ratio_cpu": write.plain_over_ours["cpu"],
        "read_ratio": blocks.plain_over_ours["wall"],
        "read_ratio_cpu": blocks.plain_over_ours["cpu"],
        "random_read_ratio": random.plain_over_ours["wall"],
        "random_read_ratio_cpu": random.plain_over_ours["cpu"],
        "over_oindex": min(figure.oindex_over_ours or 0.0 for figure in (random, blocks)),
        "write_gb_per_s": round(write.ours, 3),
        "read_rows_per_s": round(blocks.ours, 1),
    }


def write_array(path: Path, chunk_NTD: NDArray[np.int8], n: int) -> None:
    """The whole array, its metadata too; chunk files that are there are replaced."""
    writer = ArrayWriter(path, (n, TOKENS, WIDTH), len(chunk_NTD), np.int8)
    for chunk in range(writer.n_chunks):
        writer.write(chunk, chunk_NTD[: len(writer.rows(chunk))])


def write_flat(path: Path, chunk_NTD: NDArray[np.int8], n: int) -> None:
    """The same rows end to end, into a file that replaces the one before."""
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        for start in range(0, n, len(chunk_NTD)):
            file.write(chunk_NTD[: min(len(chunk_NTD), n - start)].data)
    part.replace(path)


def random_rows(rng: np.random.Generator, n: int) -> Rows:
    """A batch of rows anywhere."""
    return rng.integers(0, n, BATCH_ROWS)


def shuffled_blocks(rng: np.random.Generator, n: int) -> Rows:
    """A batch of whole blocks of neighbouring rows, in random order."""
    starts = rng.choice(n // BLOCK_ROWS, BATCH_ROWS // BLOCK_ROWS, replace=False) * BLOCK_ROWS
    rows: Rows = (starts[:, None] + np.arange(BLOCK_ROWS)).ravel()
    return rows


if __name__ == "__main__":
    main()
