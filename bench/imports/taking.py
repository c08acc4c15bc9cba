"""How near taking features in comes to what the disk gives: `take_features` against reading and writing alone.

Slides of N tiles are made, their features as TRIDENT writes them (float32, a chunk a row), and out of memory's cache
before each turn. `disk` reads every file from one end to the other and writes as many bytes as are kept (float16, half
of them), synced, by as many threads: no copy can be quicker. `taken` is the stage's own work: the checksum, the rows to
their tiles, float16 and its checks, the item's files, their checksums, synced and renamed. Written once, nothing else
is copied; read twice, since the stage `slides` takes each file's checksum too (`slides`, the same read alone).

The tiles are hard links to one item's: they are looked at and not read. Not covered: features that are not in the
machine's own file system.

Run: python -m bench.imports.taking [--slides N] [--tiles N] [--within DIR]; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

from bench.printing import finish, show
from bench.scratch import scratch
from pipeline.base.items import TRAIN, TilesItem, TilesManifest
from pipeline.base.partials import file_sha256
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.base.types import Json
from pipeline.imports.stage import THREADS, take_features
from pipeline.params.tokens import TokensParams
from pipeline.tiles.coords.tiling import trident_attributes
from pipeline.tiles.item.meta import SlideMeta
from pipeline.tiles.item.writer import TileWriter

TEACHER, WIDTH, SIDE, MPP = "h0-mini", 768, 256, 0.5
"""A teacher of the registry that is not asked anything: its weights are not here."""
RECIPE: dict[str, Json] = {"tile_px": SIDE, "made": "bench"}
BLOCK = 1 << 20


def make(root: Path, slides: int, tiles: int) -> tuple[TilesManifest, dict[str, Path], Store]:
    """So many slides of so many tiles, and their files of features."""
    store, first = Store(root / "store"), "slide-00000"
    rng, columns = np.random.default_rng(0), 100
    corner_N2 = np.array([(SIDE * (i % columns), SIDE * (i // columns)) for i in range(tiles)], np.int64)
    meta = SlideMeta(
        kind="file", tile_px=SIDE, mpp=(MPP, MPP), mpp_from="slide", size_l0_px=(SIDE, SIDE), read_level=0,
        slide_l0_px=(SIDE * columns, SIDE * (tiles // columns + 1)), read_downsample=1.0, dct_scale=1, reader="bench",
        as_scanned=0, mask_mpp=(8.0, 8.0), tissue_threshold=0.0,
    )  # fmt: skip
    ref = Ref("tiles", recipe_key(RECIPE), first)
    with store.write(ref, RECIPE) as folder:
        writer = TileWriter(folder)
        for row, (x, y) in enumerate(corner_N2.tolist()):
            writer.append(b"not looked at", x_l0=x, y_l0=y, source=str(row))
        writer.close(meta)
    original = root / f"{first}.h5"
    with h5py.File(original, "w") as file:
        values = rng.normal(size=(tiles, WIDTH)).astype(np.float32)
        features = file.create_dataset("features", data=values, chunks=(1, WIDTH), maxshape=(None, WIDTH))
        features.attrs["encoder"] = TEACHER
        coords = file.create_dataset("coords", data=corner_N2, chunks=(1, 2), maxshape=(None, 2))
        coords.attrs.update(trident_attributes(SIDE, SIDE, MPP, 0, meta.slide_l0_px))
    digest, paths, items = file_sha256(original)[:32], dict[str, Path](), list[TilesItem]()
    for number in range(slides):
        name = f"slide-{number:05}"
        if number:
            shutil.copytree(store.path(ref), store.path(Ref("tiles", ref.recipe, name)), copy_function=os.link)
            shutil.copyfile(original, root / f"{name}.h5")
        paths[name] = root / f"{name}.h5"
        told = {"id": name, "key": name, "digest": name, "n": tiles, "kind": "file", "split": TRAIN}
        items.append(TilesItem(**told, tissue_mm2=None, features=digest))
    return TilesManifest(recipe_key=ref.recipe, recipe=RECIPE, items=tuple(items)), paths, store


def cold(paths: Sequence[Path]) -> None:
    """Out of memory's cache, as files of yesterday are."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - used


def by_threads(work: Callable[[Path], object], paths: Sequence[Path]) -> None:
    """As many as the stage has."""
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, paths))


def read_and_write(path: Path) -> None:
    """Read all of it, and write half as many bytes, synced."""
    kept = path.with_suffix(".kept")
    with open(path, "rb") as source, open(kept, "wb") as target:
        while data := source.read(BLOCK):
            target.write(data[: len(data) // 2])
        target.flush()
        os.fsync(target.fileno())


def main() -> None:
    """Make, measure, print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--slides", type=int, default=200)
    asked.add_argument("--tiles", type=int, default=4000)
    asked.add_argument("--within", type=Path, help="a folder on the disk to measure")
    told = asked.parse_args()
    with scratch(told.within) as root:
        tiles, paths, store = make(root, told.slides, told.tiles)
        files = list(paths.values())
        nbytes = sum(path.stat().st_size for path in files)
        params = TokensParams(teacher=TEACHER, weights=str(root / "none.safetensors"))
        turns: dict[str, Callable[[], object]] = {
            "slides: checksums": lambda: by_threads(file_sha256, files),
            "disk: read, half written": lambda: by_threads(read_and_write, files),
            "taken": lambda: take_features(tiles, paths, params, store, 0),
            "taken again": lambda: take_features(tiles, paths, params, store, 0),
        }
        # Libraries are loaded and compiled once a run, however many slides it has.
        take_features(tiles.model_copy(update={"items": tiles.items[:1]}), paths, params, store, 0)
        seconds = {}
        for name, work in turns.items():
            cold(files)
            seconds[name] = timed(work)
        kept = sum(store.nbytes(ref) for ref in store.refs() if ref.kind == "tokens")
    rows = [(name, wall, cpu, nbytes / wall / 1e6, cpu / (nbytes / 1e9)) for name, (wall, cpu) in seconds.items()]
    title = f"{told.slides} slides, {nbytes / 1e9:.3g} GB of features, {kept / 1e9:.3g} GB kept, {THREADS} threads"
    show(title, ("", "s", "CPU s", "MB/s of features", "CPU s a GB"), rows)
    share = seconds["disk: read, half written"][0] / seconds["taken"][0]
    finish(
        {
            "slides": told.slides,
            "gb": nbytes / 1e9,
            "kept_share": kept / nbytes,
            "of_the_disk": share,
            **{name: {"s": wall, "cpu_s": cpu} for name, (wall, cpu) in seconds.items()},
        }
    )


if __name__ == "__main__":
    main()
