"""How many of the stored chunks each process of a training touches in an epoch, in parts and without.

By the order itself, over slides of which nothing is read: of every batch each process's own places, and in which chunk
of its slide's tokens each lies (`tokens.item.writer.chunk_rows`: some 64 MB). What a process reads is the same number
of tiles either way; what a node's page cache or a bucket's has to hold, and how often a chunk is fetched, is by chunks.

Run: python -m bench.student.parts. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from bench.printing import finish, show
from pipeline.corpus.loader import shared_batch
from pipeline.corpus.order import Order
from pipeline.corpus.shards import ShardedOrder
from pipeline.params.student import StudentParams
from pipeline.tokens.item.writer import chunk_rows

TOKENS, WIDTH = 196, 1024
"""UNI's."""


def touched(order: Order | ShardedOrder, a_chunk: int, batch_size: int, processes: int) -> list[int]:
    """Chunks that each process touches in the first epoch."""
    shards = order.shards if isinstance(order, ShardedOrder) else 1
    size = shared_batch(batch_size, order.total, processes, shards)
    own, epoch = size // processes, order.epoch(0)
    seen: list[set[int]] = [set() for _ in range(processes)]
    for number in range(order.steps(size)):
        batch = epoch.batch(number, size, 0, size)
        chunk_N = batch.slide * (1 << 32) + batch.row // a_chunk
        for rank, chunks in enumerate(seen):
            chunks.update(np.unique(chunk_N[rank * own : (rank + 1) * own]).tolist())
    return [len(chunks) for chunks in seen]


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=64)
    parser.add_argument("--tiles", type=int, default=2000, help="of each slide")
    parser.add_argument("--batch-size", type=int, default=256)
    asked = parser.parse_args()
    params, rows = StudentParams(), [asked.tiles] * asked.slides
    a_chunk = chunk_rows(asked.tiles, "int8", 1, TOKENS, WIDTH)
    there = asked.slides * -(-asked.tiles // a_chunk)
    how: dict[str, Any] = {"block_rows": params.block_rows, "buffer_rows": params.buffer_rows}
    found: dict[str, Any] = {"chunks": there}
    lines = []
    for processes in (1, 2, 4, 8, 16):
        whole = touched(Order(rows, **how), a_chunk, asked.batch_size, processes)
        parts = touched(ShardedOrder(rows, processes, **how), a_chunk, asked.batch_size, processes)
        lines.append((processes, max(whole), max(parts), sum(whole) / there, sum(parts) / there))
        found |= {f"whole_{processes}": max(whole), f"parts_{processes}": max(parts)}
    columns = ("processes", "without parts", "in parts", "all together / chunks", "in parts")
    show(f"Chunks that a process touches, of {there}", columns, lines)
    finish(found)


if __name__ == "__main__":
    main()
