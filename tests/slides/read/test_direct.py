"""The direct reader is OpenSlide, sooner: the same pixels everywhere, or OpenSlide itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from made.slides import KINDS, blobs, make_slide, overwrite

from pipeline.base.errors import SlideRefused
from pipeline.slides.read.direct import DirectReader
from pipeline.slides.read.opening import open_slide
from pipeline.slides.read.reader import DamagedPixels, SlideReader

Pair = tuple[DirectReader, SlideReader]
REAL = ("CMU-1-Small-Region.svs", "region-40x.tif", "tcga-cr-7395-01a-01-ts1.svs", "coarse-4x.tif")


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The same slide, of a size that is no multiple of its tiles, by both readers."""
    levels = ((150, 100), (75, 50))
    path = make_slide(
        tmp_path_factory.mktemp("pair") / "a.tif", blobs(300, 200), level_sizes=levels, kind=request.param, tile_px=64
    )
    with DirectReader(path, how="direct") as direct, SlideReader(path) as openslide:
        yield direct, openslide


@given(data=st.data())
def test_any_region_of_any_level_is_openslides(pair: Pair, data: st.DataObject) -> None:
    direct, openslide = pair
    level = data.draw(st.integers(0, 2))
    downsample = round(direct.level_downsamples[level])
    width, height = direct.level_dimensions[level]
    x, y = data.draw(st.integers(-30, width + 20)) * downsample, data.draw(st.integers(-30, height + 20)) * downsample
    size = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 150))
    np.testing.assert_array_equal(direct.read(level, x, y, *size), openslide.read(level, x, y, *size))
    assert direct.method == "direct"


@settings(max_examples=10)
@given(data=st.data())
def test_between_the_pixels_of_a_level_it_is_openslide_too(pair: Pair, data: st.DataObject) -> None:
    direct, openslide = pair
    x, y = (data.draw(st.integers(0, 60)) for _ in range(2))
    np.testing.assert_array_equal(direct.read(1, x, y, 40, 40), openslide.read(1, x, y, 40, 40))


@pytest.mark.parametrize("name", REAL)
def test_real_slides_are_read_alike(real_data: Path, name: str) -> None:
    path, rng = real_data / "slides" / name, np.random.default_rng(0)
    with DirectReader(path, 0.5, how="direct") as direct, SlideReader(path, 0.5) as openslide:
        for level, (width, height) in enumerate(direct.level_dimensions):
            downsample = direct.level_downsamples[level]
            if downsample != round(downsample):
                continue
            # Somewhere, at the first corner and over the last one.
            for x, y in [rng.integers(0, (width, height)) for _ in range(3)] + [(0, 0), (width - 50, height - 50)]:
                at = int(x * downsample), int(y * downsample)
                np.testing.assert_array_equal(direct.read(level, *at, 211, 97), openslide.read(level, *at, 211, 97))
        if all(map(openslide.exact, range(len(openslide.level_dimensions)))):
            np.testing.assert_array_equal(direct.thumbnail(200), openslide.thumbnail(200))
        assert direct.method == "direct"


def test_a_level_that_level_0_cannot_address_gives_its_own_pixels(tmp_path: Path) -> None:
    whole, half = blobs(301, 203), (150, 101)
    path = make_slide(tmp_path / "a.tif", whole, level_sizes=[half], kind="deflate", tile_px=64)
    with tifffile.TiffFile(path) as tiff:
        level_1 = tiff.pages[1].asarray()
    with DirectReader(path) as direct, SlideReader(path) as openslide:
        downsample = direct.level_downsamples[1]
        assert downsample != round(downsample) and direct.exact(1) and not openslide.exact(1)
        for x, y in ((0, 0), (33, 21), (99, 60), (101, 3)):
            read = direct.read(1, round(x * downsample), round(y * downsample), 40, 30)
            np.testing.assert_array_equal(read, level_1[y : y + 30, x : x + 40])


def test_no_tile_is_decoded_twice_for_neighbours_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_slide(tmp_path / "a.tif", blobs(640, 300), kind="jpeg-ycbcr-420", tile_px=64)
    decoded = []
    with DirectReader(path) as direct:
        direct.read(0, 0, 0, 8, 8)
        assert direct._tiff is not None
        decode = direct._tiff.decode
        monkeypatch.setattr(
            direct._tiff, "decode", lambda level, tile, out: decoded.append(tile) or decode(level, tile, out)
        )
        for y in (0, 100, 200):
            for x in range(0, 540, 90):
                direct.read(0, x, y, 100, 100)
    assert len(decoded) == len(set(decoded))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("jpeg")])
def test_a_stored_tile_stands_alone_and_is_what_the_slide_shows(tmp_path: Path, kind: str) -> None:
    path = make_slide(tmp_path / "a.tif", blobs(300, 200), level_sizes=[(150, 100)], kind=kind, tile_px=64)
    with DirectReader(path) as direct, SlideReader(path) as openslide:
        for level, x, y in ((0, 0, 0), (0, 128, 64), (1, 64, 0)):
            jpeg = direct.stored_tile(level, x, y, 64)
            assert jpeg is not None
            at = round(x * direct.level_downsamples[level]), round(y * direct.level_downsamples[level])
            np.testing.assert_array_equal(simplejpeg.decode_jpeg(jpeg), openslide.read(level, *at, 64, 64))
        for level, x, y, side in ((0, 1, 0, 64), (0, 0, 32, 64), (0, 256, 0, 64), (0, 0, 192, 64), (0, 0, 0, 63)):
            assert direct.stored_tile(level, x, y, side) is None
        assert openslide.stored_tile(0, 0, 0, 64) is None


@pytest.mark.parametrize("kind", ["jpeg-ycbcr-420", "deflate"])
@pytest.mark.parametrize("data", [None, b"\xff\xd8\xff\xe0 no tile"], ids=["zeros", "rubbish"])
def test_a_damaged_tile_is_an_error_and_the_others_are_not(tmp_path: Path, kind: str, data: bytes | None) -> None:
    path = make_slide(tmp_path / "a.tif", blobs(300, 200), kind=kind, tile_px=64)
    with SlideReader(path) as openslide:
        whole = openslide.read(0, 0, 0, 300, 200)
    overwrite(path, [6], data)
    with DirectReader(path) as direct:
        with pytest.raises(DamagedPixels, match="tile 6"):
            direct.read(0, 0, 0, 300, 200)
        with pytest.raises(DamagedPixels):
            direct.read(0, 64 + 10, 64 + 10, 8, 8)
        np.testing.assert_array_equal(direct.read(0, 0, 0, 300, 64), whole[:64])
        np.testing.assert_array_equal(direct.read(0, 128, 64, 100, 64), whole[64:128, 128:228])
        assert direct.method == "direct"


def test_data_beyond_the_end_of_the_file_is_damage(tmp_path: Path) -> None:
    path = make_slide(tmp_path / "a.tif", blobs(300, 200), kind="jpeg-ycbcr-420", tile_px=64)
    with DirectReader(path) as direct:
        direct.read(0, 0, 0, 8, 8)
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size // 2)
        with pytest.raises(DamagedPixels, match="ends within"):
            direct.read(0, 0, 0, 300, 200)


def test_what_is_not_the_same_is_left_to_openslide_which_is_said(tmp_path: Path) -> None:
    grey = tmp_path / "grey.tif"
    resolution = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(grey, blobs(300, 200)[..., 0], tile=(64, 64), metadata=None, **resolution)
    with open_slide(grey) as slide, SlideReader(grey) as openslide:
        np.testing.assert_array_equal(slide.read(0, 5, 5, 90, 90), openslide.read(0, 5, 5, 90, 90))
        assert slide.method.startswith("openslide (level 0")
    with open_slide(grey, how="direct") as slide, pytest.raises(SlideRefused, match="level 0"):
        slide.read(0, 0, 0, 8, 8)


def test_pixels_that_differ_are_noticed(tmp_path: Path) -> None:
    path = make_slide(tmp_path / "a.tif", blobs(300, 200), kind="jpeg-rgb", tile_px=64)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        # It says YCbCr: OpenSlide believes the tag, as this reader does, but not the JPEG's own marker.
        tiff.pages[0].tags["PhotometricInterpretation"].overwrite(6)
    with open_slide(path) as slide, SlideReader(path) as openslide:
        np.testing.assert_array_equal(slide.read(0, 0, 0, 300, 200), openslide.read(0, 0, 0, 300, 200))
