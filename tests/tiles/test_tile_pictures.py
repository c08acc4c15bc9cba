"""Pictures for people show the slide, what was kept, and the tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made.slides import make_slide, tissue_picture
from PIL import Image, ImageFilter

from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.sources import Source
from pipeline.tiles.item.reader import TileReader
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


def test_blurred_tiles_are_tinted_and_counted(tmp_path: Path) -> None:
    picture = Image.fromarray(tissue_picture(1000, 800))
    part = picture.crop((400, 200, 700, 600)).filter(ImageFilter.GaussianBlur(6))
    picture.paste(part, (400, 200))
    slide = make_slide(tmp_path / "slide.tif", np.asarray(picture))
    write_slide_tiles(Source("it", "file", slide), tmp_path, PARAMS)
    tiles = TileReader(tmp_path)
    x, y = (tiles.table[name].to_numpy() for name in ("x_l0", "y_l0"))
    blurred = (x >= 400) & (x + 64 <= 700) & (y >= 200) & (y + 64 <= 600)
    assert not blurred.any() and tiles.meta.dropped["blurred"] >= 12
    assert (tiles.table["sharpness"].to_numpy() >= PARAMS.min_sharpness).all()
    thumb, overlay, _ = pictures(tmp_path)
    middle = slice(380, 420), slice(520, 560)
    tint = overlay[middle].mean((0, 1)) - (0.45 * thumb[middle].mean() + 0.55 * 255)
    assert tint[0] > tint[1] + 15 and tint[2] > tint[1] + 10


def test_blank_tiles_are_dropped_before_they_are_read(tmp_path: Path) -> None:
    """Tissue by the mask, since somebody drew it there; but there is nothing on it."""
    slide = make_slide(tmp_path / "slide.tif", tissue_picture(1000, 800))
    Image.new("L", (100, 80), 255).save(tmp_path / "m.png")
    write_slide_tiles(Source("it", "file", slide, mask=tmp_path / "m.png"), tmp_path, PARAMS)
    tiles = TileReader(tmp_path)
    stain = tiles.table["haematoxylin"].to_numpy() + tiles.table["eosin"].to_numpy()
    assert tiles.meta.dropped["blank"] > 20 and (stain >= PARAMS.min_stain).all()
    assert tiles.meta.dropped["glass"] == 0


def test_tiles_with_more_than_a_tenth_of_ink_are_dropped(tmp_path: Path) -> None:
    picture = tissue_picture(1000, 800)
    picture[:, 480:520] = (30, 60, 170)
    write_slide_tiles(Source("it", "file", make_slide(tmp_path / "slide.tif", picture)), tmp_path, PARAMS)
    tiles = TileReader(tmp_path)
    x = tiles.table["x_l0"].to_numpy()
    assert not ((x < 510) & (x + 64 > 490)).any() and tiles.meta.dropped["pen"] >= 10
    assert ((x + 64 > 380) & (x + 64 < 440)).any()
