"""Pictures for people show the slide, what was kept, and the tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made_slides import make_slide, tissue_picture
from PIL import Image

from pipeline.params import TilesParams, TissueParams
from pipeline.slides.sources import Source
from pipeline.tiles.reader import TileReader
from pipeline.tiles.whole_slide import write_slide_tiles

PARAMS = TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001))


def pictures(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    opened = []
    for name in ("thumb.jpg", "overlay.jpg", "mosaic.jpg"):
        with Image.open(folder / name) as image:
            opened.append(np.asarray(image.convert("RGB")).astype(int))
    return opened[0], opened[1], opened[2]


def test_the_overlay_keeps_the_colour_of_kept_tiles_and_fades_the_rest(tmp_path: Path) -> None:
    slide = make_slide(tmp_path / "slide.tif", tissue_picture(1600, 1200))
    write_slide_tiles(Source("it", "file", slide), tmp_path, PARAMS)
    thumb, overlay, mosaic = pictures(tmp_path)
    assert thumb.shape == overlay.shape == (768, 1024, 3)
    assert mosaic.shape[1] > 900
    x, y = (TileReader(tmp_path).table[name].to_numpy() for name in ("x_l0", "y_l0"))
    scale = 1024 / 1600
    for x_l0, y_l0 in zip(x, y, strict=True):
        at = (
            slice(int((y_l0 + 20) * scale), int((y_l0 + 44) * scale)),
            slice(int((x_l0 + 20) * scale), int((x_l0 + 44) * scale)),
        )
        if (thumb[at].min(-1) < 200).all():
            assert np.abs(overlay[at].mean((0, 1)) - thumb[at].mean((0, 1))).max() < 25
    faded = overlay[:60, :60]
    assert (faded.max(-1) - faded.min(-1)).max() < 12 and faded.mean() > thumb[:60, :60].mean()


def test_small_slides_are_not_enlarged_and_have_small_mosaics(tmp_path: Path) -> None:
    slide = make_slide(tmp_path / "slide.tif", tissue_picture(300, 260))
    write_slide_tiles(Source("it", "file", slide), tmp_path, PARAMS)
    thumb, overlay, mosaic = pictures(tmp_path)
    assert thumb.shape == overlay.shape == (260, 300, 3)
    assert mosaic.shape[0] <= mosaic.shape[1]


def test_tiles_too_small_for_lines_have_no_grid_over_them(tmp_path: Path) -> None:
    slide = make_slide(tmp_path / "slide.tif", tissue_picture(1800, 400))
    write_slide_tiles(Source("it", "file", slide), tmp_path, PARAMS.model_copy(update={"tile_px": 16}))
    thumb, overlay, _ = pictures(tmp_path)
    middle = slice(90, 140), slice(460, 560)
    assert np.abs(thumb[middle] - overlay[middle]).max() < 60
