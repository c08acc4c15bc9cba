"""Two runs on one store: what another is making is passed over, and looked at again at the end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made.processes import until
from made.slides import make_slide, tissue_picture

from pipeline.base.store import Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.sources import sources
from pipeline.tiles.stage import make_tiles, tile_slide, tiles_recipe, tiles_ref

PARAMS = TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001))
ONE = ClusterParams(workers=1)


@pytest.mark.parametrize("finishes", [True, False])
def test_a_slide_that_another_run_is_at_is_left_to_it_or_made_once_it_lets_go(finishes: bool, tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        make_slide(tmp_path / f"{name}.tif", tissue_picture(400, 300, seed))
    table = tmp_path / "slides.csv"
    table.write_text("path,split\na.tif,train\nb.tif,train\nc.tif,test\n")
    store, other = Store(tmp_path / "store"), Store(tmp_path / "other")
    slides = catalogue(SlidesParams(table=str(table)), store, ONE)
    located = sources(table, store, SlidesParams())
    held = tiles_ref(slides.item("a"), PARAMS)
    tile_slide(located["a"], slides.item("a"), PARAMS, other)
    with ThreadPoolExecutor(1) as pool:
        try:
            with store.write(held, tiles_recipe(PARAMS)) as folder:
                run = pool.submit(make_tiles, slides, located, PARAMS, store, ONE)
                until(lambda: all(store.has(tiles_ref(slides.item(name), PARAMS)) for name in "bc"), 0.02)
                assert not store.has(held) and not run.done()
                if not finishes:
                    raise KeyboardInterrupt
                for path in sorted(other.path(held).rglob("*")):
                    target = folder / path.relative_to(other.path(held))
                    if path.is_dir():
                        target.mkdir()
                    elif path.name != "item.json":
                        target.write_bytes(path.read_bytes())
                (folder / "by_the_other_run").write_text("yes")
        except KeyboardInterrupt:
            pass
        made = run.result(timeout=600)
    assert [item.id for item in made.items] == ["a", "b", "c"] and not made.refused
    assert (store.path(held) / "by_the_other_run").exists() == finishes
