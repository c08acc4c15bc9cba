"""QuPath shows what was scanned of a slide and counts from its corner; masks come in so, and tiles go out so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from made.slides import make_scn, tissue_picture
from PIL import Image

from pipeline.base.items import SlidesManifest, TilesManifest
from pipeline.base.store import Ref, Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.read.reader import SlideReader
from pipeline.slides.sources import sources
from pipeline.tiles.coords.exporting import export_coords
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.stage import make_tiles

AT, SIDE = (700, 500), 640
PARAMS = TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001))
ONE = ClusterParams(workers=1)


def tiled(folder: Path, store: Store, row: str) -> tuple[SlidesManifest, TilesManifest]:
    table = folder / "slides.csv"
    table.write_text(f"path,mask\n{row}\n")
    params = SlidesParams(table=str(table))
    slides = catalogue(params, store, ONE)
    return slides, make_tiles(slides, sources(table, store, params), PARAMS, store, ONE)


def corners(tiles: TilesManifest, store: Store) -> np.ndarray:
    table = TileReader(store.path(Ref.of(tiles, tiles.items[0]))).table
    return np.stack([table["x_l0"].to_numpy(), table["y_l0"].to_numpy()], axis=1)


def test_a_mask_from_qupath_and_the_tiles_for_it_count_from_what_was_scanned(tmp_path: Path) -> None:
    make_scn(tmp_path / "s.scn", tissue_picture(SIDE, SIDE, 1), (1600, 1600), AT)
    with SlideReader(tmp_path / "s.scn") as slide:
        assert slide.bounds == (*AT, SIDE, SIDE)
    ring = [[128, 128], [448, 128], [448, 448], [128, 448], [128, 128]]
    (tmp_path / "m.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    store = Store(tmp_path / "store")
    slides, tiles = tiled(tmp_path, store, "s.scn,m.geojson")
    corner_N2 = corners(tiles, store)
    assert len(corner_N2) >= 16
    assert (corner_N2 >= np.array(AT) + 128 - 32).all() and (corner_N2 <= np.array(AT) + 448 - 32).all()
    ((path,), _) = export_coords(slides, tiles, store, "qupath", tmp_path / "out")
    first = [one["geometry"]["coordinates"][0][0] for one in json.loads(path.read_text())["features"]]
    assert (np.array(first) == corner_N2 - AT).all()
    assert not tiles.items[0].remarks
    # A picture is of the whole slide, here of one that is as square as what was scanned.
    Image.new("L", (160, 160), 1).save(tmp_path / "m.png")
    assert "proportions of what was scanned" in tiled(tmp_path, store, "s.scn,m.png")[1].items[0].remarks[1]
    # What goes out marks, as a mask that comes in, the tiles that it was made of.
    _, again = tiled(tmp_path, store, f"s.scn,{path.relative_to(tmp_path)}")
    assert (corners(again, store) == corner_N2).all()
