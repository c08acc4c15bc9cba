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
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

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
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = bench(Path(folder), max(options.rows, BATCH_ROWS), options.repeats)
    print(f"{'':<16}{'arrays':>12}{'plain file':>12}{'ratio':>8}{'oindex':>12}{'ratio':>8}")
    for name, unit in (("write", "GB/s"), ("random", "rows/s"), ("block-shuffled", "rows/s")):
        ours, plain, oindex = figures[name]
        theirs = f"{oindex:>12,.0f}{ours / oindex:>8.1f}" if oindex else ""
        digits = 2 if name == "write" else 0
        print(f"{name:<16}{ours:>12,.{digits}f}{plain:>12,.{digits}f}{ours / plain:>8.2f}{theirs}  {unit}")
    print(json.dumps(summary(figures) | {"rows": max(options.rows, BATCH_ROWS), "repeats": options.repeats}))


def bench(folder: Path, n: int, repeats: int) -> dict[str, tuple[float, float, float | None]]:
    """{what: (ours, plain file, oindex)}: GB/s of `write`, rows/s of `random` and `block-shuffled`."""
    rng = np.random.default_rng(0)
    rows = chunk_rows(n, "int8", 1, TOKENS, WIDTH)
    chunk_NTD = rng.integers(-127, 128, (rows, TOKENS, WIDTH), np.int8)
    array, flat = folder / "array", folder / "flat"
    figures: dict[str, tuple[float, float, float | None]] = {}
    times = rounds(repeats, [lambda: write_array(array, chunk_NTD, n), lambda: write_flat(flat, chunk_NTD, n)])
    figures["write"] = (n * ROW_NBYTES / times[0] / 1e9, n * ROW_NBYTES / times[1] / 1e9, None)

    mapped = MappedArray(array)
    plain = np.memmap(flat, np.int8, "r", shape=(n, TOKENS, WIDTH))
    slow = zarr.open_array(str(array), mode="r")
    for name, draw in (("random", random_rows), ("block-shuffled", shuffled_blocks)):
        batches = [draw(rng, n) for _ in range(BATCHES)]
        expected = plain[batches[0]]
        if not all(np.array_equal(got, expected) for got in (mapped.take(batches[0]), slow.oindex[batches[0]])):
            raise SystemExit(f"{name}: the contenders read different bytes")
        contenders: list[Callable[[], Any]] = [
            lambda batches=batches: [mapped.take(rows) for rows in batches],  # type: ignore[misc]
            lambda batches=batches: [plain[rows] for rows in batches],  # type: ignore[misc]
            lambda batches=batches: slow.oindex[batches[0]],  # type: ignore[misc]
        ]
        ours, memmap, oindex = rounds(repeats, contenders)
        figures[name] = (BATCHES * BATCH_ROWS / ours, BATCHES * BATCH_ROWS / memmap, BATCH_ROWS / oindex)
    return figures


def summary(figures: dict[str, tuple[float, float, float | None]]) -> dict[str, float]:
    """The ratios of the last line."""
    (ours, plain, _), random, blocks = figures["write"], figures["random"], figures["block-shuffled"]
    assert random[2] is not None and blocks[2] is not None
    ratios = {
        "write_ratio": ours / plain,
        "read_ratio": blocks[0] / blocks[1],
        "random_read_ratio": random[0] / random[1],
        "over_oindex": min(random[0] / random[2], blocks[0] / blocks[2]),
        "write_gb_per_s": ours,
        "read_rows_per_s": blocks[0],
    }
    return {name: round(value, 3) for name, value in ratios.items()}


def rounds(repeats: int, contenders: list[Callable[[], Any]]) -> list[float]:
    """Median seconds of each; they take turns, in another order each round, and the first round warms up."""
    seconds: list[list[float]] = [[] for _ in contenders]
    for number in range(repeats + 1):
        for i in range(len(contenders)):
            which = (i + number) % len(contenders)
            began = time.perf_counter()
            contenders[which]()
            seconds[which].append(time.perf_counter() - began)
    return [statistics.median(taken[1:]) for taken in seconds]


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
