"""Whether a training that reads its tiles and tokens from a bucket is fed as from a copy here.

A made corpus (`bench.student.corpus`: JPEG tiles of 224 px, tokens of ViT-L's 196 x 1024 int8, 0.23 MB a tile) is sent
to an S3 server (moto's) behind a proxy that answers late (`far_bucket`), and read with a cache that holds about half of
it, so that pages go and come again. A training step is `--step-ms` of waiting, as a GPU's is for the host. Each round:

    resident        steps on one batch that stays in memory
    local           steps fed by the loader from the store
    N ms            steps fed by the loader from the bucket, each of whose answers is N ms late
    local, N ms alone   the loader without a training

Of each: tiles a second, CPU seconds of this process (the loader's and the client's, not the server's), requests and
bytes a step. `fed` is a row's rate over the resident one's, the median over the rounds.

What this does not cover: bandwidth (loopback has more than a network), a bucket's own variation, TLS.

Run: python -m bench.remote.streaming. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import urlopen

import botocore.session

from bench.clock import Spent, clock, since
from bench.printing import finish, show
from bench.scratch import die_with_parent, scratch
from bench.student.corpus import TILE_PX, make_corpus
from pipeline.base.store import Ref, Store
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.loader import BatchShape, Loader
from pipeline.corpus.order import Order
from pipeline.remote.bucket import Bucket
from pipeline.remote.moves import push
from pipeline.tiles.item.reader import TileReader
from pipeline.tokens.item.reader import TokenReader

WORKERS, BLOCK_ROWS = 2, 16


@dataclass(frozen=True)
class Row:
    """Of one run: tiles a second, and a step's CPU seconds, requests and MB."""

    tiles_per_s: float
    cpu_s: float
    requests: float = 0.0
    mb: float = 0.0


@dataclass(frozen=True)
class Far:
    """The late bucket."""

    port: int

    def set(self, latency_ms: float) -> dict[str, int]:
        """How late it answers from here on; requests and bytes since it was last set."""
        with urlopen(f"http://127.0.0.1:{self.port}/-/{latency_ms}") as answer:
            told: dict[str, int] = json.load(answer)
        return told


@contextlib.contextmanager
def late_bucket() -> Iterator[Far]:
    """An S3 server and the proxy before it, to which the environment shows the way."""
    with contextlib.ExitStack() as stack:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        moto = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        _started(moto, stack, subprocess.DEVNULL)
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        serve = f"from bench.remote.far_bucket import serve; serve({port})"
        proxy = _started([sys.executable, "-c", serve], stack, subprocess.PIPE)
        assert proxy.stdout is not None
        far = Far(int(proxy.stdout.readline()))
        stack.enter_context(contextlib.closing(proxy.stdout))
        told = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret-of-the-bench"}
        os.environ |= told | {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{far.port}"}
        yield far


def _started(command: list[str], stack: contextlib.ExitStack, stdout: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def there(corpus: Corpus, store: Store, refs: Sequence[Ref]) -> Corpus:
    """The same corpus, opened in the bucket."""
    folders = {
        kind: [store.open(ref, remedy="none") for ref in refs if ref.kind == kind] for kind in ("tiles", "tokens")
    }
    readers = tuple(map(TileReader, folders["tiles"])), tuple(map(TokenReader, folders["tokens"]))
    return replace(corpus, tiles=readers[0], tokens=readers[1], store=store)


def fed(loader: Loader | None, warm: int, start: int, steps: int, step_s: float) -> Spent:
    """What so many steps take after the `warm` ones of the first window, which has to come before any of them."""
    batches = _resident() if loader is None else loader.batches(start, start + warm + steps)
    began = clock()
    with closing(batches):
        for number, _ in enumerate(itertools.islice(batches, warm + steps)):
            if number == warm:
                began = clock()
            time.sleep(step_s)
        return since(began)


def _resident() -> Generator[None, None, None]:
    while True:
        yield None


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=12)
    parser.add_argument("--tiles", type=int, default=80, help="tiles a slide")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--step-ms", type=float, default=50)
    parser.add_argument("--latencies", type=float, nargs="+", default=[5, 20, 50], metavar="MS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="timed steps of a run")
    parser.add_argument("--folder", type=Path, help="on the disk of interest (the system's temporary folder)")
    asked = parser.parse_args()
    with scratch(asked.folder) as folder, late_bucket() as far:
        corpus = make_corpus(folder, asked.slides, asked.tiles)
        assert corpus.store is not None
        refs = list(corpus.store.own_refs())
        nbytes = sum(corpus.store.nbytes(ref) for ref in refs)
        botocore.session.get_session().create_client("s3").create_bucket(Bucket="bench")
        assert not push(corpus.store, Bucket.at("s3://bench/x"), refs).failed
        remote = Store(folder / "there", remote=Bucket.at("s3://bench/x", nbytes // 2))
        opened = clock()
        far.set(20)
        from_bucket = there(corpus, remote, refs)
        figures: dict[str, float] = {"open_ms_an_item": 1000 * since(opened).wall_s / len(refs)}
        figures["requests_an_item"] = far.set(0)["requests"] / len(refs)
        # The cache holds eight windows; four are in use, asked for, or just read.
        order = Order(corpus.rows, block_rows=BLOCK_ROWS, buffer_rows=corpus.total // 16, seed=0)
        shape = BatchShape(asked.batch_size, TILE_PX, dense=(0,))
        loaders = {"local": Loader(corpus, order, shape, workers=WORKERS)}
        loaders["bucket"] = Loader(from_bucket, order, shape, workers=WORKERS)
        # All objects once, so that the proxy has them.
        warm = -(-order.window_blocks * BLOCK_ROWS // asked.batch_size)
        fed(loaders["bucket"], warm, 0, loaders["bucket"].steps_per_epoch, 0)
        runs: dict[str, tuple[Loader | None, float, float]] = {"resident": (None, 0, asked.step_ms)}
        runs["local"] = loaders["local"], 0, asked.step_ms
        runs |= {f"{ms:g} ms": (loaders["bucket"], ms, asked.step_ms) for ms in asked.latencies}
        runs["local alone"] = loaders["local"], 0, 0
        runs |= {f"{ms:g} ms alone": (loaders["bucket"], ms, 0) for ms in asked.latencies}
        rows: dict[str, list[Row]] = {name: [] for name in runs}
        starts = itertools.count(1000, 1000)
        for _ in range(asked.rounds):
            for name, (loader, ms, step_ms) in runs.items():
                far.set(ms)
                took = fed(loader, warm, next(starts), asked.steps, step_ms / 1000)
                told = far.set(0)
                a_step = asked.steps + warm
                more = told["requests"] / a_step, told["nbytes"] / a_step / 1e6
                rows[name].append(Row(asked.batch_size * asked.steps / took.wall_s, took.cpu_s / asked.steps, *more))
    table = []
    for name, found in rows.items():
        by_round = [row.tiles_per_s / of.tiles_per_s for row, of in zip(found, rows["resident"], strict=True)]
        middle = [statistics.median(getattr(row, what) for row in found) for what in Row.__dataclass_fields__]
        fed_share = None if "alone" in name else statistics.median(by_round)
        table.append((name, middle[0], fed_share, 1000 * middle[1], *middle[2:]))
        key = name.replace(" ", "_")
        figures |= {f"{key}_tiles_per_s": middle[0], f"{key}_cpu_ms_a_step": 1000 * middle[1]}
        figures |= {} if fed_share is None else {f"{key}_fed": fed_share}
    show(f"{corpus.total} tiles, {nbytes / 1e6:.0f} MB, batches of {asked.batch_size}, steps of {asked.step_ms:g} ms",
         ("", "tiles/s", "fed", "CPU ms a step", "requests a step", "MB a step"), table)  # fmt: skip
    finish({name: round(value, 4) for name, value in figures.items()})


if __name__ == "__main__":
    main()
