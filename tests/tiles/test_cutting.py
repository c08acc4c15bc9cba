"""Tiles as they are in the file where that is possible, reduced in decoding where it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
from made.slides import make_slide, overwrite, tissue_picture

from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.sources import Source
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import decode_jpeg
from pipeline.tiles.whole_slide import write_slide_tiles

PARAMS = TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001))


def tile(slide: Path, out: Path, **changes: object) -> TileReader:
    out.mkdir()
    write_slide_tiles(Source("it", "file", slide), out, PARAMS.model_copy(update=changes))
    return TileReader(out)


def places(tiles: TileReader) -> list[tuple[int, int]]:
    return list(zip(tiles.table["x_l0"].to_pylist(), tiles.table["y_l0"].to_pylist(), strict=True))


@pytest.mark.parametrize("kind", ["jpeg-ycbcr-420", "jpeg-ycbcr-444", "jpeg-rgb"])
@pytest.mark.parametrize("mpp", [0.5, 0.25])
def test_aligned_tiles_are_the_files_own_bytes_and_decode_to_the_slide(tmp_path: Path, kind: str, mpp: float) -> None:
    slide = make_slide(tmp_path / "a.tif", tissue_picture(1024, 768), (mpp, mpp), [(512, 384)], kind, tile_px=64)
    tiles = tile(slide, tmp_path / "out")
    level = tiles.meta.read_level
    assert tiles.meta.as_scanned == len(tiles) > 15 and level == (0 if mpp == 0.5 else 1)
    data = slide.read_bytes()
    with openslide.OpenSlide(str(slide)) as opened:
        for row, at in enumerate(places(tiles)):
            # The entropy-coded part, as it is in the file.
            assert tiles.jpeg(row)[-500:] in data
            shown = np.asarray(opened.read_region(at, level, (64, 64)).convert("RGB"))
            np.testing.assert_array_equal(decode_jpeg(tiles.jpeg(row)), shown)


def test_tiles_of_another_grid_or_by_openslide_are_not_kept_as_scanned(tmp_path: Path) -> None:
    slide = make_slide(tmp_path / "a.tif", tissue_picture(1024, 768), kind="jpeg-rgb", tile_px=64)
    for i, changes in enumerate(({"tile_px": 60}, {"reader": "openslide"}, {"target_mpp": 0.6})):
        tiles = tile(slide, tmp_path / str(i), **changes)
        assert tiles.meta.as_scanned == 0 and len(tiles) > 15


@pytest.mark.parametrize(("target", "scale"), [(0.5, 2), (0.6, 2), (1.0, 4), (0.4, 1)])
def test_reduced_decoding_is_taken_where_it_is_fine_enough_and_shows_the_same(
    tmp_path: Path, target: float, scale: int
) -> None:
    picture = tissue_picture(1600, 1200)
    slide = make_slide(tmp_path / "a.tif", picture, (0.25, 0.25), kind="jpeg-ycbcr-420", tile_px=128)
    tiles = tile(slide, tmp_path / "reduced", reduced_dct=True, target_mpp=target)
    default = tile(slide, tmp_path / "default", target_mpp=target)
    assert (tiles.meta.read_level, tiles.meta.dct_scale) == (0, scale) and default.meta.dct_scale == 1
    assert tiles.meta.reader == "direct"
    same = {at: row for row, at in enumerate(places(default))}
    both = [(row, same[at]) for row, at in enumerate(places(tiles)) if at in same]
    # The others start a pixel beside, since each grid starts on whole pixels of what it is read from.
    assert len(tiles) == pytest.approx(len(default), abs=2) and len(both) > 0.2 * len(default) > 2
    for row, other in both:
        assert np.abs(tiles.image(row).astype(int) - default.image(other)).mean() < 4


def test_a_pyramids_own_level_is_taken_before_a_reduced_one(tmp_path: Path) -> None:
    picture = tissue_picture(800, 600)
    slide = make_slide(tmp_path / "a.tif", picture, (0.25, 0.25), [(400, 300)], "jpeg-ycbcr-420")
    tiles = tile(slide, tmp_path / "out", reduced_dct=True)
    assert (tiles.meta.read_level, tiles.meta.dct_scale) == (1, 1)


def test_damaged_tiles_are_counted_in_reduced_decoding_too(tmp_path: Path) -> None:
    slide = make_slide(
        tmp_path / "a.tif", tissue_picture(1600, 1200), (0.25, 0.25), [(200, 150)], "jpeg-rgb", tile_px=128
    )
    whole = tile(slide, tmp_path / "whole", reduced_dct=True)
    overwrite(slide, [4 * 13 + 6])
    part = tile(slide, tmp_path / "part", reduced_dct=True)
    lost = set(places(whole)) - set(places(part))
    assert lost == {(x, y) for x, y in places(whole) if x < 7 * 128 and x + 128 > 6 * 128 and 384 < y < 5 * 128}
    assert part.meta.dropped["damaged"] == len(lost) == 1
