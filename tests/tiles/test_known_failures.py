"""What other tiling tools were seen to do with such slides, and must not happen here; one test each, on whole runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from dask.distributed import LocalCluster
from made.partials import orphaned
from made.slides import make_slide, put, spans, tissue_picture

from pipeline.base.items import TilesManifest
from pipeline.base.store import Ref, Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.sources import sources
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.stage import make_tiles

PARAMS = TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001), min_sharpness=0)


class Run:
    """A folder of slides, tiled as a run does it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(folder / "store")

    def tiles(self, *names: str, params: TilesParams = PARAMS, cluster: ClusterParams | None = None) -> TilesManifest:
        table, one = self.folder / "slides.csv", ClusterParams(workers=1)
        table.write_text("path,slide_id\n" + "".join(f"{name}.tif,{name}\n" for name in names))
        slides_params = SlidesParams(table=str(table))
        slides = catalogue(slides_params, self.store, one)
        return make_tiles(slides, sources(table, self.store, slides_params), params, self.store, cluster or one)

    def reader(self, made: TilesManifest, slide_id: str) -> TileReader:
        (item,) = [item for item in made.items if item.id == slide_id]
        return TileReader(self.store.path(Ref("tiles", made.recipe_key, item.key)))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def by_place(tiles: TileReader) -> dict[tuple[int, int], bytes]:
    places = zip(tiles.table["x_l0"].to_pylist(), tiles.table["y_l0"].to_pylist(), strict=True)
    return {at: tiles.jpeg(row) for row, at in enumerate(places)}


def test_one_unreadable_slide_neither_ends_the_run_nor_costs_another_slide(run: Run) -> None:
    for seed, name in enumerate("ac"):
        make_slide(run.folder / f"{name}.tif", tissue_picture(700, 500, seed))
    alone = run.tiles("a", "c")
    shutil.copy(run.folder / "a.tif", run.folder / "b.tif")
    put(run.folder / "b.tif", 0, bytes(5000))
    made = run.tiles("a", "b", "c")
    assert made.items == alone.items
    assert [refusal.id for refusal in made.refused] == ["b"] and made.refused[0].reason and made.refused[0].fix


@pytest.mark.parametrize("reader", ["auto", "openslide"])
def test_two_megabytes_of_zeros_are_tiles_left_out_and_counted(run: Run, reader: str) -> None:
    path, params = run.folder / "a.tif", PARAMS.model_copy(update={"reader": reader, "tile_px": 128})
    make_slide(path, tissue_picture(2048, 1536), kind="jpeg-finest", level_sizes=[(256, 192)], tile_px=64)
    first, last = spans(path)[330][0], spans(path)[740]
    assert last[0] + last[1] - first > 2 << 20
    whole = by_place(run.reader(run.tiles("a", params=params), "a"))
    # A byte longer, else it passes for a copy of the same slide, whose tiles are known.
    (run.folder / "b.tif").write_bytes(path.read_bytes() + b"\0")
    put(run.folder / "b.tif", first, bytes(2 << 20))
    made = run.tiles("b", params=params)
    part = by_place(run.reader(made, "b"))
    damaged = made.items[0].dropped["damaged"]
    assert damaged > 30 and len(part) > 30 and len(part) + damaged == len(whole)
    # No white tile and no wrong one: what is there is what was there.
    assert all(jpeg == whole[at] for at, jpeg in part.items())


def test_a_slide_without_mpp_is_refused_and_not_taken_for_half_a_micrometre(run: Run) -> None:
    make_slide(run.folder / "silent.tif", tissue_picture(700, 500), mpp=None)
    make_slide(run.folder / "good.tif", tissue_picture(700, 500))
    made = run.tiles("silent", "good")
    assert [item.id for item in made.items] == ["good"]
    (refusal,) = made.refused
    assert refusal.id == "silent" and "no mpp" in refusal.reason and "slides.csv" in refusal.fix


def test_a_tile_of_a_slide_of_0293_um_covers_what_was_asked_for(run: Run) -> None:
    """Read as 40x, 20x would be every second pixel: 0.586 um/px."""
    sizes = [(1000, 750), (500, 375)]
    make_slide(run.folder / "a.tif", tissue_picture(2000, 1500), (0.293, 0.293), sizes, "jpeg-rgb")
    tiles = run.reader(run.tiles("a"), "a")
    assert tiles.meta.read_level == 0
    um = np.array(tiles.meta.size_l0_px) * 0.293
    assert um == pytest.approx([32, 32], rel=1e-4)
    steps = np.diff(np.unique(tiles.table["x_l0"].to_numpy()))
    assert steps.mean() * 0.293 == pytest.approx(32, rel=0.01)


def test_a_killed_runs_lock_is_nobodys_and_its_slide_is_made(run: Run) -> None:
    make_slide(run.folder / "a.tif", tissue_picture(700, 500))
    made = run.tiles("a")
    # As kill -9 leaves it: a partial folder with its owner's file and some of its files.
    partial = orphaned(run.store, Ref("tiles", made.recipe_key, made.items[0].key))
    assert run.tiles("a") == made
    assert not partial.exists()


# Dask leaves sockets of its own to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("dask_workers", [None, 1])
def test_the_largest_slide_is_tiled_first(run: Run, dask_workers: int | None) -> None:
    for name, side in (("a", 400), ("b", 900), ("c", 600)):
        make_slide(run.folder / f"{name}.tif", tissue_picture(side, side))
    if dask_workers is None:
        made = run.tiles("a", "b", "c")
    else:
        with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
            made = run.tiles("a", "b", "c", cluster=ClusterParams(scheduler=cluster.scheduler_address))
    refs = {item.id: Ref("tiles", made.recipe_key, item.key) for item in made.items}
    done = {name: (run.store.path(ref) / "item.json").stat().st_mtime_ns for name, ref in refs.items()}
    assert sorted(done, key=lambda name: done[name]) == ["b", "c", "a"]
    assert [item.id for item in made.items] == ["a", "b", "c"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_the_manifest_does_not_depend_on_which_slide_is_done_first(run: Run) -> None:
    """Three at a time, the largest last in the table: they end in another order than they are listed in."""
    for name, side in (("a", 200), ("b", 350), ("c", 1100)):
        make_slide(run.folder / f"{name}.tif", tissue_picture(side, side))
    shutil.copy(run.folder / "a.tif", run.folder / "bad.tif")
    put(run.folder / "bad.tif", 0, bytes(5000))
    with LocalCluster(n_workers=3, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        made = run.tiles("c", "bad", "a", "b", cluster=ClusterParams(scheduler=cluster.scheduler_address))
    done = {i.id: (run.store.path(Ref("tiles", made.recipe_key, i.key)) / "item.json").stat() for i in made.items}
    assert min(done, key=lambda name: done[name].st_mtime_ns) != "c"
    alone = Run(run.folder)
    alone.store = Store(run.folder / "other")
    assert alone.tiles("c", "bad", "a", "b") == made and [item.id for item in made.items] == ["c", "a", "b"]
