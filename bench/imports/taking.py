"""How near taking features in comes to what the disk gives: `take_features` against reading and writing alone.

Slides of N tiles are made, their features as TRIDENT writes them (float32 or, as with its `--mix_precision`, float16;
a chunk a row), and out of memory's cache before each turn. `disk` reads every file from one end to the other and writes
as many bytes as are kept (float16), synced, by as many threads: no copy can be quicker. It goes through the page cache,
so it is what the machine's memory and its disk give together; a lab's SATA disk gives 500 MB/s, a network share 100 to
1,000. `copied` copies them whole (`shutil.copyfile`) and syncs each. `bare` is what nobody who verifies can leave out:
read, the sha256 of what was read, float16, the sha256 of what is written, written and synced; a loop of plain calls
over flat bytes, without an item, a tiling or a check of any value. `taken` is the stage's own work: the
rows to their tiles, float16 and its checks, the item's files, their checksums, synced, renamed. Written once, nothing
else is copied. `slides: checksums` is what that stage does with the same files before; where they are as they were
then, as here, `taken` takes no checksum of them a second time, and with `--summed` it does.

With `--processes` as many worker processes take them in, as the stage does by itself where there is enough for them
(pipeline/imports/sharing_out.py); `started` is their start and end alone, a few seconds whatever there is to do.

Each round does all of it again from nothing, in room for the files and one copy of them; the shares of the disk's rate
are medians over rounds.

The tiles are hard links to one item's: they are looked at and not read. Not covered: features that are not in the
machine's own file system.

Run: python -m bench.imports.taking [--slides N] [--tiles N] [--teacher h0-mini|uni] [--dtype float16|float32]
[--rounds K] [--within DIR] [--processes P] [--summed]; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from bench.clock import Spent, median, ratios, spent
from bench.printing import finish, show
from bench.scratch import scratch
from pipeline.base.items import TRAIN, TilesItem, TilesManifest
from pipeline.base.partials import file_sha256
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.base.types import Json
from pipeline.cluster.spread import each
from pipeline.imports import sharing_out
from pipeline.imports.sharing_out import THREADS, processes_for
from pipeline.imports.stage import take_features
from pipeline.params.site import ClusterParams
from pipeline.params.tokens import TokensParams
from pipeline.slides.looked import mark
from pipeline.tiles.coords.tiling import trident_attributes
from pipeline.tiles.item.meta import SlideMeta
from pipeline.tiles.item.writer import TileWriter

WIDTHS = {"h0-mini": 768, "uni": 1024}
"""Teachers of the registry that are not asked anything: their weights are not here."""
SIDE, MPP = 256, 0.5
DISK, COPIED, BARE, TAKEN = "disk: read, write what is kept", "copied whole", "bare: with both sha256", "taken"
RECIPE: dict[str, Json] = {"tile_px": SIDE, "made": "bench"}
BLOCK = 1 << 20
STARTED = "processes: started and ended"


@dataclass(frozen=True)
class Made:
    """Slides, their files of features by id, and the store that has their tiles."""

    tiles: TilesManifest
    paths: dict[str, Path]
    store: Store

    def forget(self) -> None:
        """What was taken of them."""
        shutil.rmtree(self.store.root / "tokens", ignore_errors=True)


def make(root: Path, slides: int, tiles: int, teacher: str, dtype: str) -> Made:
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
        values = rng.normal(size=(tiles, WIDTHS[teacher])).astype(dtype)
        features = file.create_dataset(
            "features", data=values, chunks=(1, values.shape[1]), maxshape=(None, values.shape[1])
        )
        features.attrs["encoder"] = teacher
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
    return Made(TilesManifest(recipe_key=ref.recipe, recipe=RECIPE, items=tuple(items)), paths, store)


def cold(paths: Sequence[Path]) -> None:
    """Out of memory's cache, as files of yesterday are."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def by_threads(work: Callable[[Path], object], paths: Sequence[Path]) -> None:
    """As many as the stage has."""
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, paths))


def read_and_write(path: Path, share: float) -> None:
    """Read all of it, and write that share of the bytes, synced."""
    kept = path.with_suffix(".kept")
    with open(path, "rb") as source, open(kept, "wb") as target:
        while data := source.read(BLOCK):
            target.write(data[: int(len(data) * share)])
        target.flush()
        os.fsync(target.fileno())


def copy(path: Path) -> None:
    """All of it, synced."""
    kept = path.with_suffix(".kept")
    shutil.copyfile(path, kept)
    with open(kept, "rb") as file:
        os.fsync(file.fileno())


def bare(path: Path, dtype: str) -> None:
    """Read all of it, as flat numbers to float16, each side's sha256, written, synced."""
    kept, read, written = path.with_suffix(".kept"), hashlib.sha256(), hashlib.sha256()
    block, half = np.empty(BLOCK, np.uint8), np.empty(BLOCK // np.dtype(dtype).itemsize, np.float16)
    with open(path, "rb", buffering=0) as source, open(kept, "wb", buffering=0) as target:
        while n := source.readinto(block.data):
            read.update(block[:n].data)
            values = block[: n // 8 * 8].view(dtype)
            own = half[: len(values)]
            torch.from_numpy(own).copy_(torch.from_numpy(values))
            data = own.view(np.uint8).data
            written.update(data)
            target.write(data)
        os.fsync(target.fileno())


def measured(made: Made, told: argparse.Namespace, share: float) -> tuple[dict[str, list[Spent]], int]:
    """What each turn took in each round, and the bytes that were kept."""
    files = list(made.paths.values())
    params = TokensParams(teacher=told.teacher, weights=str(made.store.root / "none.safetensors"))

    cluster = ClusterParams(workers=told.processes)
    marks = {} if told.summed else {name: mark(str(path)) for name, path in made.paths.items()}
    if told.processes > 1:
        # As if there were enough for all of them.
        sharing_out.ENOUGH_S = 1e-3

    def take(tiles: TilesManifest = made.tiles) -> None:
        take_features(tiles, made.paths, params, made.store, 0, cluster, marks)

    def start() -> None:
        asked = functools.partial(processes_for, cluster=cluster)
        list(each(asked, [()] * told.processes, cluster))

    turns: dict[str, Callable[[], None]] = {
        "slides: checksums": lambda: by_threads(file_sha256, files),
        DISK: lambda: by_threads(lambda path: read_and_write(path, share), files),
        COPIED: lambda: by_threads(copy, files),
        BARE: lambda: by_threads(lambda path: bare(path, told.dtype), files),
        TAKEN: take,
        **({STARTED: start} if told.processes > 1 else {}),
    }
    # Libraries are loaded and compiled once a run, however many slides it has.
    take(made.tiles.model_copy(update={"items": made.tiles.items[:1]}))
    found: dict[str, list[Spent]] = {name: [] for name in turns}
    for _ in range(told.rounds):
        made.forget()
        for name, work in turns.items():
            cold(files)
            found[name].append(spent(work))
            for path in files:
                path.with_suffix(".kept").unlink(missing_ok=True)
    found["taken again"] = [spent(take)]
    return found, sum(made.store.nbytes(ref) for ref in made.store.refs() if ref.kind == "tokens")


def _once_started(found: Mapping[str, Sequence[Spent]]) -> list[Spent]:
    """What it took in each round without the start of processes, if there were any."""
    started = found.get(STARTED) or [Spent(0.0, 0.0)] * len(found[TAKEN])
    return [Spent(a.wall_s - b.wall_s, a.cpu_s - b.cpu_s) for a, b in zip(found[TAKEN], started, strict=True)]


def main() -> None:
    """Make, measure, print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--slides", type=int, default=200)
    asked.add_argument("--tiles", type=int, default=4000)
    asked.add_argument("--teacher", choices=WIDTHS, default="h0-mini")
    asked.add_argument("--dtype", choices=["float16", "float32"], default="float32")
    asked.add_argument("--rounds", type=int, default=1)
    asked.add_argument("--processes", type=int, default=1)
    asked.add_argument("--summed", action="store_true", help="as if the files had changed since they were looked at")
    asked.add_argument("--within", type=Path, help="a folder on the disk to measure")
    told = asked.parse_args()
    with scratch(told.within) as root:
        made = make(root, told.slides, told.tiles, told.teacher, told.dtype)
        nbytes = sum(path.stat().st_size for path in made.paths.values())
        share = told.slides * told.tiles * WIDTHS[told.teacher] * 2 / nbytes
        found, kept = measured(made, told, share)
    typical = {name: median(each) for name, each in found.items()}
    rows = [
        (name, one.wall_s, one.cpu_s, nbytes / one.wall_s / 1e6, one.cpu_s / (nbytes / 1e9), one.cpu_s / told.slides)
        for name, one in typical.items()
    ]
    by = f"{THREADS} threads" if told.processes == 1 else f"{told.processes} processes"
    title = f"{told.slides} slides, {nbytes / 1e9:.3g} GB of {told.dtype}, {kept / 1e9:.3g} GB kept, {by}"
    show(title, ("", "s", "CPU s", "MB/s of features", "CPU s a GB", "CPU s a slide"), rows)
    finish(
        {
            "slides": told.slides,
            "tiles": told.tiles,
            "rounds": told.rounds,
            "gb": nbytes / 1e9,
            "kept_share": kept / nbytes,
            "processes": told.processes,
            "of_the_disk_once_started": ratios(found[DISK], _once_started(found)),
            "of_the_disk": ratios(found[DISK], found[TAKEN]),
            "of_a_copy": ratios(found[COPIED], found[TAKEN]),
            "of_bare": ratios(found[BARE], found[TAKEN]),
            "bare_of_the_disk": ratios(found[DISK], found[BARE]),
            **{name: {"s": one.wall_s, "cpu_s": one.cpu_s} for name, one in typical.items()},
        }
    )


if __name__ == "__main__":
    main()
