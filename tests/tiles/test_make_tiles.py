"""From slides.json to tiles.json: only what is missing is made, and nothing is lost on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
from made.partials import partials
from made.slides import make_slide, tissue_picture

from pipeline.base.errors import SlideRefused, SlideUnavailable
from pipeline.base.items import SlidesManifest, TilesManifest
from pipeline.base.manifest import Refusal
from pipeline.base.store import Ref, Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.sources import Source, sources
from pipeline.tiles.coords.exporting import export_coords
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import encode_jpeg
from pipeline.tiles.stage import make_tiles, tiles_recipe, tiles_ref

PARAMS = TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001))
ONE = ClusterParams(workers=1)

SCRIPT = """
import sys
from pathlib import Path
from pipeline.base.items import SlidesManifest
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.slides.sources import sources
from pipeline.base.store import Store
from pipeline.tiles.stage import make_tiles
folder, params = Path(sys.argv[1]), TilesParams.model_validate_json(sys.argv[2])
store, table = Store(folder / "store"), folder / "slides.csv"
slides = SlidesManifest.load(folder / "slides.json")
make_tiles(slides, sources(table, store, SlidesParams()), params, store, ClusterParams(workers=1))
"""


class Bench:
    """A folder with a slide table, its slides and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store, self.table = folder, Store(folder / "store"), folder / "slides.csv"
        self.lines = ["path,slide_id,mpp"]

    def add(self, name: str, seed: int, mpp: float = 0.5, table_mpp: str = "") -> None:
        make_slide(self.folder / f"{name}.tif", tissue_picture(1000, 700, seed), (mpp, mpp))
        self.lines.append(f"{name}.tif,{name},{table_mpp}")

    def slides(self) -> tuple[SlidesManifest, dict[str, Source]]:
        self.table.write_text("\n".join(self.lines) + "\n")
        params = SlidesParams(table=str(self.table))
        manifest = catalogue(params, self.store, ONE)
        manifest.save(self.folder / "slides.json")
        return manifest, sources(self.table, self.store, params)

    def tiles(self, params: TilesParams = PARAMS, cluster: ClusterParams = ONE) -> TilesManifest:
        return make_tiles(*self.slides(), params, self.store, cluster)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def written(store: Store) -> dict[str, int]:
    return {str(ref): (store.path(ref) / "item.json").stat().st_mtime_ns for ref in store.refs()}


def test_good_slides_are_tiled_and_the_others_refused_with_the_reason(bench: Bench) -> None:
    bench.add("good", 1)
    bench.add("coarse", 2, mpp=1.0)
    (bench.folder / "broken.tif").write_bytes(b"II*\0 no slide")
    bench.lines.append("broken.tif,broken,")
    (bench.folder / "set" / "x").mkdir(parents=True)
    (bench.folder / "set" / "x" / "1.jpg").write_bytes(encode_jpeg(tissue_picture(64, 64), 90))
    bench.lines.append("set,set,")
    manifest = bench.tiles()
    assert [item.id for item in manifest.items] == ["good", "set"]
    assert {refusal.id for refusal in manifest.refused} == {"broken", "coarse"}
    assert all(refusal.fix for refusal in manifest.refused)
    good, folder = manifest.items
    assert good.n > 50 and good.kind == "file" and good.dropped["glass"] > 0
    assert folder.n == 1 and folder.labels == {"x": 1} and folder.tissue_mm2 is None
    assert {good.split, folder.split} <= {"train", "test"}
    assert manifest.summary.tiles == good.n + 1 and manifest.summary.nbytes > 10_000
    bench.store.require(manifest)


def test_what_the_store_has_is_not_made_again_and_needs_no_slide(bench: Bench) -> None:
    bench.add("one", 1)
    slides, located = bench.slides()
    first = make_tiles(slides, located, PARAMS, bench.store, ONE)
    before = written(bench.store)
    (bench.folder / "one.tif").unlink()
    assert make_tiles(slides, {}, PARAMS, bench.store, ONE) == first
    assert written(bench.store) == before


def test_adding_a_slide_makes_one_item(bench: Bench) -> None:
    bench.add("one", 1)
    bench.tiles()
    before = written(bench.store)
    bench.add("two", 2)
    bench.tiles()
    after = written(bench.store)
    assert len(after) == 2 and before.items() <= after.items()


def test_a_slide_whose_file_is_gone_is_looked_at_again_and_the_rest_go_on(bench: Bench) -> None:
    bench.add("one", 1)
    bench.add("two", 2)
    slides, located = bench.slides()
    del located["one"]
    manifest = make_tiles(slides, located, PARAMS, bench.store, ONE)
    assert [item.id for item in manifest.items] == ["two"]
    fix = manifest.refused[0].fix
    assert manifest.refused == (Refusal.of("one", SlideUnavailable("its file is not here", fix=fix)),)


def test_a_slide_that_changed_after_the_slides_stage_does_not_get_into_the_cache(bench: Bench) -> None:
    bench.add("one", 1)
    bench.add("two", 2)
    slides, located = bench.slides()
    make_slide(bench.folder / "one.tif", tissue_picture(1000, 700, 9))
    manifest = make_tiles(slides, located, PARAMS, bench.store, ONE)
    assert [item.id for item in manifest.items] == ["two"]
    assert "changed since" in manifest.refused[0].reason and manifest.refused[0].passing


def test_on_error_fail_raises_the_first_refusal_and_names_the_slide(bench: Bench) -> None:
    bench.add("fine", 1)
    bench.add("coarse", 2, mpp=1.0)
    with pytest.raises(SlideRefused, match="coarse: coarser than the target"):
        bench.tiles(PARAMS.model_copy(update={"on_error": "fail"}))


def test_a_slide_at_the_mpp_of_the_table_is_another_item(bench: Bench) -> None:
    bench.add("one", 1)
    own = bench.slides()[0].items[0]
    bench.lines[-1] = "one.tif,one,0.25"
    told = bench.slides()[0].items[0]
    assert tiles_ref(own, PARAMS) != tiles_ref(told, PARAMS)
    assert bench.tiles().items[0].n < 50


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"tile_px": 65}, False),
        ({"target_mpp": 0.51}, False),
        ({"tissue": TissueParams(min_coverage=0.6)}, False),
        ({"max_tiles_per_slide": 9}, False),
        ({"reduced_dct": True}, False),
        ({"seed": 5}, True),
        ({"on_error": "fail"}, True),
    ],
)
def test_the_recipe_is_what_changes_the_bytes(change: dict[str, object], same: bool) -> None:
    assert (tiles_recipe(PARAMS.model_copy(update=change)) == tiles_recipe(PARAMS)) == same


def test_a_killed_run_keeps_what_was_finished_and_the_next_ends_with_the_same_bytes(bench: Bench) -> None:
    for seed in range(3):
        bench.add(f"slide-{seed}", seed)
    slides, located = bench.slides()
    command = [sys.executable, "-c", SCRIPT, str(bench.folder), PARAMS.model_dump_json()]
    # The child waits for a slide that this process is at, so that it cannot have ended before it is killed.
    held = tiles_ref(slides.items[-1], PARAMS)
    with pytest.raises(KeyboardInterrupt), bench.store.write(held, tiles_recipe(PARAMS)):
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not written(bench.store):
            assert child.poll() is None
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        raise KeyboardInterrupt
    before = written(bench.store)
    assert 1 <= len(before) < 3
    resumed = make_tiles(slides, located, PARAMS, bench.store, ONE)
    assert before.items() <= written(bench.store).items()
    assert not partials(bench.store)
    for item in resumed.items:
        bench.store.verify(Ref("tiles", resumed.recipe_key, item.key))
    other = make_tiles(slides, located, PARAMS, Store(bench.folder / "other"), ONE)
    assert other == resumed


# Dask's scheduler leaves a socket of its own to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_two_workers_make_the_same_manifest_as_one(bench: Bench) -> None:
    for seed in range(2):
        bench.add(f"slide-{seed}", seed)
    slides, located = bench.slides()
    alone = make_tiles(slides, located, PARAMS, bench.store, ONE)
    together = make_tiles(slides, located, PARAMS, Store(bench.folder / "other"), ClusterParams(workers=2))
    assert together == alone


def test_further_scales_are_cut_of_train_slides_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for seed, (name, mpp) in enumerate((("learnt", 0.25), ("held", 0.25), ("coarse", 0.5))):
        make_slide(tmp_path / f"{name}.tif", tissue_picture(800, 600, seed), (mpp, mpp))
    bench.lines = ["path,slide_id,split", "learnt.tif,learnt,train", "held.tif,held,test", "coarse.tif,coarse,train"]
    plain, finer = bench.tiles(), bench.tiles(PARAMS.at(0.4))
    both = bench.tiles(PARAMS.model_copy(update={"also_mpp": (0.4,)}))

    def jpegs(tiles: TilesManifest, name: str, mpp: float) -> list[bytes]:
        reader = TileReader(bench.store.path(Ref.of(tiles, tiles.item(name))))
        return [reader.jpeg(row) for row in reader.rows_at(mpp).tolist()]

    assert "also_mpp" not in plain.recipe and both.recipe_key != plain.recipe_key
    assert jpegs(both, "learnt", 0.5) == jpegs(plain, "learnt", 0.5)
    assert jpegs(both, "learnt", 0.4) == jpegs(finer, "learnt", 0.4)
    assert both.item("learnt").n == plain.item("learnt").n + finer.item("learnt").n
    assert jpegs(both, "held", 0.5) == jpegs(plain, "held", 0.5) and both.item("held").n == plain.item("held").n
    assert both.item("coarse").n == plain.item("coarse").n
    assert any("no tiles at 0.4 um/px: coarser" in remark for remark in both.item("coarse").remarks)
    written, _ = export_coords(bench.slides()[0], both, bench.store, "trident", tmp_path / "coords")
    with h5py.File(next(path for path in written if "learnt" in path.name)) as file:
        assert len(file["coords"]) == plain.item("learnt").n
