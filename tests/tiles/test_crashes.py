"""A slide on which a decoder crashes, and takes its process with it, costs that slide alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from crashing_decoder import crash_on
from made.slides import make_slide, tissue_picture

from pipeline.base.store import Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.sources import sources
from pipeline.tiles.stage import make_tiles

PARAMS = TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001))
# Dask's own sockets are closed by the garbage collector when a worker has died.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


def test_a_slide_whose_decoder_segfaults_is_tried_twice_then_left_and_the_rest_go_on(
    tmp_path: Path,
) -> None:
    names = ["a", "b", "crash", "d"]
    for seed, name in enumerate(names):
        make_slide(tmp_path / f"{name}.tif", tissue_picture(800, 600, seed), kind="jpeg-rgb", tile_px=64)
    table = tmp_path / "slides.csv"
    table.write_text("path,slide_id\n" + "".join(f"{name}.tif,{name}\n" for name in names))
    slides_params, store = SlidesParams(table=str(table)), Store(tmp_path / "store")
    slides = catalogue(slides_params, store, ClusterParams(workers=1))
    located = sources(table, store, slides_params)
    with crash_on(tmp_path / "crash.tif", 50, tmp_path) as log:
        made = make_tiles(slides, located, PARAMS, store, ClusterParams(workers=2))
        assert [item.id for item in made.items] == ["a", "b", "d"] and all(item.n > 30 for item in made.items)
        (refusal,) = made.refused
        assert refusal.id == "crash" and "lost on it, twice" in refusal.reason and refusal.passing and refusal.fix
        assert len(set(log.read_text().split())) == 2
        # The next run has that slide alone to do, and outlives it as well.
        assert make_tiles(slides, located, PARAMS, store, ClusterParams()) == made
