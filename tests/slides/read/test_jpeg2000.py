"""Aperio's JPEG 2000 tiles: read directly where that is OpenSlide's answer, and a tile that lost its end is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from made.slides import blobs, overwrite, put, spans
from PIL import Image

from pipeline.slides.read.direct import DirectReader
from pipeline.slides.read.reader import DamagedPixels, SlideReader

RGB, YCBCR = 33005, 33003


def make_aperio(path: Path, compression: int = RGB, quality: int = 40) -> Path:
    """300 x 200 px of blobs in tiles of 64 px, and half of it; `quality` is a PSNR, 0 is lossless."""
    with tifffile.TiffWriter(path) as tiff:
        for size in ((300, 200), (150, 100)):
            tiff.write(
                np.asarray(Image.fromarray(blobs(300, 200)).resize(size)),
                tile=(64, 64),
                compression=compression,
                compressionargs={"level": quality},
                photometric="rgb" if compression == RGB else "ycbcr",
                subsampling=None if compression == RGB else (1, 1),
                description="Aperio Image Library v11.2.1\r\n300x200 |AppMag = 20|MPP = 0.5",
                metadata=None,
            )
    return path


@pytest.mark.parametrize("quality", [0, 40])
def test_regions_are_openslides_and_are_read_directly(tmp_path: Path, quality: int) -> None:
    path, rng = make_aperio(tmp_path / "a.svs", quality=quality), np.random.default_rng(0)
    with DirectReader(path) as direct, SlideReader(path) as openslide:
        assert direct.vendor == "aperio"
        for level, (width, height) in enumerate(direct.level_dimensions):
            for x, y in [(0, 0), *rng.integers((-20, -20), (width, height), (12, 2)).tolist()]:
                at = x * 2**level, y * 2**level
                np.testing.assert_array_equal(direct.read(level, *at, 90, 70), openslide.read(level, *at, 90, 70))
        assert direct.method == "direct" and direct.stored_tile(0, 0, 0, 64) is None


def test_components_that_openslide_converts_are_left_to_it(tmp_path: Path) -> None:
    path = make_aperio(tmp_path / "a.svs", YCBCR)
    with DirectReader(path) as direct, SlideReader(path) as openslide:
        np.testing.assert_array_equal(direct.read(0, 30, 20, 200, 150), openslide.read(0, 30, 20, 200, 150))
        assert direct.method.startswith("openslide (level 0 differs")


@pytest.mark.parametrize("compression", [RGB, YCBCR])
@pytest.mark.parametrize("kind", [DirectReader, SlideReader])
def test_a_tile_of_zeros_or_rubbish_is_damage_for_both(
    tmp_path: Path, compression: int, kind: type[SlideReader]
) -> None:
    path = make_aperio(tmp_path / "a.svs", compression)
    overwrite(path, [6])
    overwrite(path, [8], np.random.default_rng(0).bytes(9000))
    with kind(path) as slide:
        slide.read(0, 0, 0, 300, 60)
        for x in (64, 3 * 64):
            with pytest.raises(DamagedPixels):
                slide.read(0, x, 64, 8, 8)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_tile_whose_end_is_zeros_is_damage_though_no_decoder_says_so(tmp_path: Path, share: float) -> None:
    path = make_aperio(tmp_path / "a.svs")
    with SlideReader(path) as openslide:
        whole_HWC = openslide.read(0, 64, 64, 64, 64)
    offset, nbytes = spans(path)[6]
    lost = int(nbytes * share)
    put(path, offset + nbytes - lost, bytes(lost))
    with DirectReader(path) as direct, SlideReader(path) as openslide:
        with pytest.raises(DamagedPixels, match="tile 6: the end of the JPEG 2000 codestream is missing"):
            direct.read(0, 70, 70, 8, 8)
        direct.read(0, 128, 64, 64, 64)
        # What OpenSlide makes of it: other pixels, and no error.
        assert not np.array_equal(openslide.read(0, 64, 64, 64, 64), whole_HWC)
