"""Times the tiles stage on one slide in a process of its own, for `bench.tiles.speed`; the last line is JSON.

The whole stage: identity, tissue mask, reading, JPEG, pictures, store. Before the clock starts the catalogue of slides
is made, and libraries are loaded by a run for one tile: that is once a worker, not once a slide.

Run: python -m bench.tiles.one_slide SLIDE TARGET_MPP TILE_PX READER
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

from bench.clock import clock, since
from bench.printing import finish
from bench.scratch import scratch
from pipeline.base.store import Ref, Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.sources import sources
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.stage import make_tiles


def main(slide: str, target_mpp: str, tile_px: str, reader: str) -> None:
    """Print what one run took, and where the tiles are."""
    params = TilesParams.model_validate(
        {"target_mpp": float(target_mpp), "tile_px": int(tile_px), "reader": reader, "on_error": "fail"}
    )
    with scratch() as folder:
        table, store, one = folder / "slides.csv", Store(folder / "store"), ClusterParams(workers=1)
        table.write_text(f"path\n{Path(slide).resolve()}\n")
        slides_params = SlidesParams(table=str(table), on_error="fail")
        slides = catalogue(slides_params, store, one)
        located = sources(table, store, slides_params)
        make_tiles(slides, located, params.model_copy(update={"max_tiles_per_slide": 1}), store, one)
        began = clock()
        made = make_tiles(slides, located, params, store, one)
        taken = since(began)
        item = TileReader(store.path(Ref("tiles", made.recipe_key, made.items[0].key)))
        report: dict[str, Any] = {
            "tiles": len(item),
            "seconds": taken.wall_s,
            "cpu_seconds": taken.cpu_s,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            **item.meta.model_dump(include={"reader", "as_scanned", "read_level", "read_downsample", "size_l0_px"}),
            "x_l0": item.table["x_l0"].to_pylist(),
            "y_l0": item.table["y_l0"].to_pylist(),
        }
    finish(report)


if __name__ == "__main__":
    main(*sys.argv[1:])
