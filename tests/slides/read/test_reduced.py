"""Reduced levels: what the JPEG library makes of each tile at that scale, beside the file's own levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from made.slides import blobs, make_slide, overwrite

from pipeline.slides.read.direct import DirectReader
from pipeline.slides.read.opening import open_slide
from pipeline.slides.read.reader import DamagedPixels
from pipeline.slides.read.reduced import ReducedReader

KIND = "jpeg-ycbcr-420"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_slide(tmp_path_factory.mktemp("reduced") / "a.tif", blobs(301, 203), kind=KIND, tile_px=64)


def whole_level(path: Path, scale: int) -> np.ndarray:
    """Every tile decoded at 1 / scale and laid side by side."""
    with DirectReader(path) as direct:
        rows = []
        for y in range(0, 203, 64):
            row = []
            for x in range(0, 301, 64):
                direct.read(0, 0, 0, 1, 1)
                assert direct._tiff is not None
                level = direct._tiff.levels[301, 203]
                data = direct._tiff.compressed(level, y // 64 * level.across + x // 64)
                side = 64 // scale
                row.append(simplejpeg.decode_jpeg(data, min_height=side, min_width=side, min_factor=scale))
            rows.append(np.concatenate(row, 1))
    return np.concatenate(rows)[: 203 // scale, : 301 // scale]


@settings(max_examples=15)
@given(data=st.data())
def test_any_region_is_cut_from_the_tiles_decoded_at_that_scale(path: Path, data: st.DataObject) -> None:
    level = data.draw(st.sampled_from([1, 2, 3]))
    scale = (1, 2, 4, 8)[level]
    with ReducedReader(path) as reader:
        assert reader.own(level) == (0, scale) and reader.own(0) == (0, 1) and reader.exact(level)
        assert reader.level_dimensions[level] == (301 // scale, 203 // scale)
        width, height = reader.level_dimensions[level]
        x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        size = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
        read = reader.read(level, x * scale, y * scale, *size)
    np.testing.assert_array_equal(read, whole_level(path, scale)[y : y + size[1], x : x + size[0]])


@pytest.mark.parametrize(("level", "scale"), [(1, 2), (2, 4), (3, 8)])
def test_a_reduced_level_shows_the_same_at_the_same_place(path: Path, level: int, scale: int) -> None:
    with ReducedReader(path) as reader:
        width, height = reader.level_dimensions[level]
        small = reader.read(level, 0, 0, width, height).astype(int)
        large = reader.read(0, 0, 0, width * scale, height * scale).astype(float)
    means = large.reshape(height, scale, width, scale, 3).mean((1, 3))
    assert np.abs(small - means).mean() < 3
    # A shift by one pixel is no nearer.
    assert np.abs(small[1:, 1:] - means[:-1, :-1]).mean() > 1.5 * np.abs(small - means).mean()


def test_the_files_own_levels_come_first_and_are_not_doubled(tmp_path: Path) -> None:
    path = make_slide(tmp_path / "a.tif", blobs(320, 192), level_sizes=[(80, 48)], kind=KIND, tile_px=64)
    with ReducedReader(path) as reader, DirectReader(path) as direct:
        assert [round(downsample) for downsample in reader.level_downsamples] == [1, 4, 2, 8, 16, 32]
        assert [reader.own(level) for level in range(6)] == [(0, 1), (1, 1), (0, 2), (0, 8), (1, 4), (1, 8)]
        np.testing.assert_array_equal(reader.read(1, 0, 0, 80, 48), direct.read(1, 0, 0, 80, 48))
        assert reader.stored_tile(0, 64, 64, 64) == direct.stored_tile(0, 64, 64, 64) is not None
        assert reader.stored_tile(2, 32, 32, 32) is None
    with ReducedReader(path, alone=True) as reader:
        assert [round(downsample) for downsample in reader.level_downsamples] == [1, 2, 4, 8]


def test_what_is_no_jpeg_has_no_reduced_level(tmp_path: Path) -> None:
    path = make_slide(tmp_path / "a.tif", blobs(300, 200), kind="deflate", tile_px=64)
    with open_slide(path, reduced_dct=True) as reader:
        assert len(reader.level_dimensions) == 1


def test_damage_is_an_error_at_a_reduced_scale_too(tmp_path: Path) -> None:
    path = make_slide(tmp_path / "a.tif", blobs(300, 200), kind=KIND, tile_px=64)
    overwrite(path, [6])
    with ReducedReader(path) as reader:
        with pytest.raises(DamagedPixels, match="tile 6"):
            reader.read(1, 64, 64, 32, 32)
        assert reader.read(1, 0, 0, 32, 32).std() > 4
