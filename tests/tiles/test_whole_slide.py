"""One slide's tiles: the right pixels at the right places, or a refusal."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import openslide
import pytest
from made.slides import make_slide, tissue_picture
from PIL import Image

from pipeline.base.errors import SlideRefused
from pipeline.demo.regions import CLASSES
from pipeline.demo.slides import make_demo_slide
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.sources import Source
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import decode_jpeg, encode_jpeg
from pipeline.tiles.resample import shrink
from pipeline.tiles.whole_slide import write_slide_tiles

SMALL = TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001))


def tile(slide: Path, out: Path, params: TilesParams = SMALL, mpp: float | None = None) -> TileReader:
    out.mkdir()
    write_slide_tiles(Source("it", "file", slide, mpp), out, params)
    return TileReader(out)


def expected(slide: Path, tiles: TileReader, row: int) -> np.ndarray:
    """The tile as OpenSlide gives it: its box of the read level, read alone, then resized and stored."""
    meta, place = tiles.meta, tiles.table.slice(row, 1).to_pylist()[0]
    with openslide.OpenSlide(str(slide)) as opened:
        ratio = meta.read_downsample
        size = (meta.size_l0_px[0] / ratio, meta.size_l0_px[1] / ratio)
        whole = (int(np.ceil(size[0] - 1e-6)), int(np.ceil(size[1] - 1e-6)))
        at = (place["x_l0"], place["y_l0"])
        region = np.asarray(opened.read_region(at, meta.read_level, whole).convert("RGB"))
    return decode_jpeg(encode_jpeg(shrink(region, size, meta.tile_px), 95))


@pytest.mark.parametrize(
    ("mpp", "levels"),
    [((0.5, 0.5), []), ((0.293, 0.293), []), ((0.25, 0.25), [(400, 300), (200, 150)]), ((0.3, 0.45), [(400, 300)])],
)
def test_tiles_are_what_a_direct_read_and_resize_gives(
    tmp_path: Path, mpp: tuple[float, float], levels: list[tuple[int, int]]
) -> None:
    slide = make_slide(tmp_path / "slide.tif", tissue_picture(800, 600), mpp, levels)
    tiles = tile(slide, tmp_path / "out")
    assert len(tiles) > 15
    for row in range(len(tiles)):
        assert np.abs(tiles.image(row).astype(int) - expected(slide, tiles, row)).max() <= 1
    assert tiles.meta.size_l0_px == pytest.approx([64 * 0.5 / mpp[0], 64 * 0.5 / mpp[1]], rel=1e-4)
    assert tiles.meta.read_level == (1 if mpp == (0.25, 0.25) else 0)


def test_kept_tiles_have_the_tissue_asked_for_and_all_are_accounted_for(tmp_path: Path) -> None:
    slide = make_slide(tmp_path / "slide.tif", tissue_picture(1200, 800))
    tiles = tile(slide, tmp_path / "out")
    tissue = np.array(tiles.table["tissue"].to_pylist())
    assert (tissue >= 0.5).all() and (tissue <= 1).all()
    dropped = tiles.meta.dropped
    assert len(tiles) + dropped["glass"] + dropped["pen"] == (1200 // 64) * (800 // 64)
    assert dropped["edge"] == 19 * 13 - 18 * 12 and dropped["limit"] == 0
    assert tiles.meta.tissue_mm2 == pytest.approx(np.pi * 0.42**2 * 0.6 * 0.4, rel=0.03)
    few = tile(slide, tmp_path / "few", SMALL.model_copy(update={"max_tiles_per_slide": 20}))
    assert len(few) == 20 and few.meta.dropped["limit"] == len(tiles) - 20


def test_ink_drops_tiles_and_is_counted(tmp_path: Path) -> None:
    picture = tissue_picture(1200, 800)
    picture[340:470] = (30, 60, 170)
    tiles = tile(make_slide(tmp_path / "slide.tif", picture), tmp_path / "out")
    assert tiles.meta.dropped["pen"] >= 10


def test_the_same_slide_gives_the_same_bytes(tmp_path: Path) -> None:
    slide = make_slide(tmp_path / "slide.tif", tissue_picture(900, 700), (0.293, 0.293))

    def digests(out: Path) -> dict[str, str]:
        tile(slide, out)
        files = (file for file in out.rglob("*") if file.is_file())
        return {file.relative_to(out).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    first = digests(tmp_path / "a")
    assert first == digests(tmp_path / "b")
    assert {"tiles.parquet", "meta.json", "thumb.jpg", "overlay.jpg", "mosaic.jpg", "jpeg/c/0"} <= set(first)


def test_a_slide_coarser_than_the_target_is_refused(tmp_path: Path) -> None:
    slide = make_slide(tmp_path / "slide.tif", tissue_picture(400, 400), (0.6, 0.6))
    with pytest.raises(SlideRefused, match=r"coarser than the target: 0\.6 um/px"):
        tile(slide, tmp_path / "out")


@pytest.mark.parametrize("noise", [0, 3])
def test_a_white_slide_is_refused(tmp_path: Path, noise: int) -> None:
    rng = np.random.default_rng(0)
    white = np.clip(245 + rng.normal(0, noise, (600, 600, 3)), 0, 255).astype(np.uint8)
    with pytest.raises(SlideRefused, match="no tissue found") as refused:
        tile(make_slide(tmp_path / "slide.tif", white), tmp_path / "out")
    assert refused.value.fix.startswith("leave it out")


def test_a_slide_smaller_than_a_tile_is_refused(tmp_path: Path) -> None:
    slide = make_slide(tmp_path / "slide.tif", tissue_picture(60, 300)[:, 10:50])
    with pytest.raises(SlideRefused, match="smaller than a tile"):
        tile(slide, tmp_path / "out")


def test_a_slide_none_of_whose_pixels_decode_is_refused(tmp_path: Path) -> None:
    slide = make_slide(tmp_path / "slide.tif", tissue_picture(600, 400))
    data = bytearray(slide.read_bytes())
    data[2000:-2000] = bytes(len(data) - 4000)
    slide.write_bytes(data)
    with pytest.raises(SlideRefused):
        tile(slide, tmp_path / "out")


def test_demo_tiles_are_labelled_by_the_class_that_most_of_them_is(tmp_path: Path) -> None:
    make_demo_slide(4, 1536, tmp_path)
    source = Source("demo-4", "demo", tmp_path / "slide.tif", None, tmp_path / "labels.png")
    (tmp_path / "out").mkdir()
    write_slide_tiles(source, tmp_path / "out", TilesParams(tile_px=96))
    tiles = TileReader(tmp_path / "out")
    with Image.open(tmp_path / "labels.png") as image:
        label_HW = np.asarray(image)
    size = round(96 * 0.5 / 0.4)
    assert len({label for label in tiles.labels if label}) >= 3
    for place in tiles.table.to_pylist():
        part = label_HW[place["y_l0"] : place["y_l0"] + size, place["x_l0"] : place["x_l0"] + size]
        shares = np.bincount(part.ravel(), minlength=len(CLASSES)) / part.size
        best = int(shares.argmax())
        assert place["label"] == (CLASSES[best] if best > 0 and shares[best] >= 0.6 else None)


def test_a_real_slide_at_an_unaligned_scale(real_data: Path, tmp_path: Path) -> None:
    slide = real_data / "slides" / "region-40x.tif"
    tiles = tile(slide, tmp_path / "out", TilesParams(tile_px=256, max_tiles_per_slide=40))
    assert tiles.meta.size_l0_px[0] == pytest.approx(436.86, abs=0.01)
    assert tiles.meta.tissue_mm2 == pytest.approx(5.6, abs=0.3)
    for row in (0, 17, 39):
        assert np.abs(tiles.image(row).astype(int) - expected(slide, tiles, row)).max() <= 1


def test_a_real_slide_of_one_level(real_data: Path, tmp_path: Path) -> None:
    slide = real_data / "slides" / "CMU-1-Small-Region.svs"
    tiles = tile(slide, tmp_path / "out")
    assert tiles.meta.tissue_mm2 == pytest.approx(0.57, abs=0.05)
    for row in range(0, len(tiles), 50):
        assert np.abs(tiles.image(row).astype(int) - expected(slide, tiles, row)).max() <= 1
