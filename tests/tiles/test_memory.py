"""A worker's memory is bounded, whatever the slide: what would take more is made coarser, and said, or refused."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made.python_server import loaded_python
from made.slides import make_slide, tissue_picture
from PIL import Image

from pipeline.base.errors import SlideRefused
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.read.direct import DirectReader
from pipeline.slides.read.levels import require_readable
from pipeline.slides.read.opening import open_slide
from pipeline.slides.read.reader import SlideReader
from pipeline.tiles.coords.tiling import read_tiling
from pipeline.tiles.grid import geometry_of, lay
from pipeline.tiles.pixels import decode_jpeg, encode_jpeg
from pipeline.tiles.tissue.look import look
from pipeline.tiles.tissue.own_mask import load_mask

SIDE_PX, TILE, FACTOR = 150_016, 256, 32
STAINED_ROWS = (290, 293)
SCRIPT = """
import json, sys
from pathlib import Path
from pipeline.params.tiles import TilesParams
from pipeline.slides.sources import Source
from pipeline.tiles.whole_slide import write_slide_tiles
out = Path(sys.argv[2])
def mib(name):
    (line,) = [line for line in open("/proc/self/status") if line.startswith(name)]
    return int(line.split()[1]) // 1024
# Its libraries are there already: the peak is counted from here.
Path("/proc/self/clear_refs").write_text("5")
before = mib("VmRSS")
write_slide_tiles(Source("it", "file", Path(sys.argv[1])), out, TilesParams(max_tiles_per_slide=100, min_sharpness=0))
print(mib("VmHWM") - before)
"""


def write_huge(path: Path) -> None:
    """A BigTIFF of 150,016 px a side at 0.5 um, levels 1 and 32: a stained band over glass. Its tiles are few files."""
    tissue_HWC = tissue_picture(4 * TILE, 4 * TILE)[TILE : 2 * TILE, TILE : 2 * TILE]
    band_HWC = np.full((TILE, TILE, 3), 243, np.uint8)
    top, bottom = (row * TILE // FACTOR % TILE for row in STAINED_ROWS)
    band_HWC[top:bottom] = np.asarray(Image.fromarray(tissue_HWC).resize((TILE, bottom - top)))
    jpegs = [encode_jpeg(rgb_HWC, 90) for rgb_HWC in (np.full_like(band_HWC, 243), tissue_HWC, band_HWC)]
    starts = 16 + np.cumsum([0, *map(len, jpegs)])
    with path.open("wb") as file:
        file.write(b"II" + struct.pack("<HHHQ", 43, 8, 0, 0) + b"".join(jpegs))
        link = 8
        for factor, kind in ((1, 1), (FACTOR, 2)):
            side = SIDE_PX // factor
            across = -(-side // TILE)
            of_row = np.zeros(across, int)
            rows = slice(*STAINED_ROWS) if factor == 1 else STAINED_ROWS[0] * TILE // FACTOR // TILE
            of_row[rows] = kind
            kinds = np.repeat(of_row, across)
            tables = file.tell()
            file.write(starts[kinds].astype("<u8").tobytes())
            file.write(np.array([len(jpeg) for jpeg in jpegs], "<u4")[kinds].tobytes() + bytes(4))
            per_cm = struct.unpack("<Q", struct.pack("<II", 20000 // factor, 1))[0]
            bits = struct.unpack("<Q", struct.pack("<HHHH", 8, 8, 8, 0))[0]
            tags = [(254, 4, 1, int(factor > 1)), (256, 4, 1, side), (257, 4, 1, side), (258, 3, 3, bits)]
            tags += [(259, 3, 1, 7), (262, 3, 1, 6), (277, 3, 1, 3), (282, 5, 1, per_cm), (283, 5, 1, per_cm)]
            tags += [(284, 3, 1, 1), (296, 3, 1, 3), (322, 4, 1, TILE), (323, 4, 1, TILE)]
            tags += [(324, 16, len(kinds), tables), (325, 4, len(kinds), tables + 8 * len(kinds))]
            tags += [(530, 3, 2, 1 | 1 << 16)]
            at = file.seek(0, 2)
            file.write(struct.pack("<Q", len(tags)) + b"".join(struct.pack("<HHQQ", *tag) for tag in tags) + bytes(8))
            file.seek(link)
            file.write(struct.pack("<Q", at))
            link = at + 8 + 20 * len(tags)
            file.seek(0, 2)


def test_a_slide_of_150_000_px_a_side_is_tiled_in_less_than_a_gibibyte(tmp_path: Path) -> None:
    write_huge(tmp_path / "huge.tif")
    (tmp_path / "out").mkdir()
    command = [loaded_python(), "-c", SCRIPT, str(tmp_path / "huge.tif"), str(tmp_path / "out")]
    peak_mib = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert meta["slide_l0_px"] == [SIDE_PX] * 2 and meta["n"] == 100 and meta["reader"] == "direct"
    # At the 8 um asked for, the mask alone would take 2.7 GiB.
    assert meta["mask_mpp"] == [pytest.approx(SIDE_PX * 0.5 / 4000, rel=1e-3)] * 2
    # What it imports without any slide takes a hundred more.
    assert peak_mib < 800


@pytest.mark.parametrize("mpp", [(0.5, 0.5), (0.1, 0.5)])
def test_the_mask_is_as_coarse_as_its_pixels_ask_for(tmp_path: Path, mpp: tuple[float, float]) -> None:
    path = make_slide(tmp_path / "a.tif", tissue_picture(1200, 800), mpp)
    with open_slide(path) as slide:
        params = TilesParams(tissue=TissueParams(mask_mpp=1, min_area_mm2=0.001))
        found = look(slide, params, max_px=60_000)
    assert 55_000 < found.picture_HWC.shape[0] * found.picture_HWC.shape[1] <= 60_000
    assert found.mask.tissue.size <= 60_000
    assert found.mask.area_mm2 == pytest.approx(np.pi * 0.42**2 * 1200 * mpp[0] * 800 * mpp[1] / 1e6, rel=0.05)


def test_reads_and_grids_beyond_sense_are_refused_before_anything_is_read() -> None:
    level = [(150_000, 150_000, 1.0)]
    with pytest.raises(SlideRefused, match="8192 x 8192 px would be read at once"):
        geometry_of(level, (0.125, 0.125), TilesParams(tile_px=2048))
    with pytest.raises(SlideRefused, match=r"8\.79e\+07 tiles"):
        lay(geometry_of(level, (0.5, 0.5), TilesParams(tile_px=16)), "skip")
    assert geometry_of(level, (0.25, 0.25), TilesParams(tile_px=2048)).size_px == (4096, 4096)


def test_a_tiff_that_is_one_tile_is_refused_by_both_readers(tmp_path: Path) -> None:
    with pytest.raises(SlideRefused, match="its own tiles are of 20000 x 20000 px"):
        require_readable((10, 10), (20_000, 20_000))
    path = make_slide(tmp_path / "a.tif", tissue_picture(1200, 800), kind="jpeg-rgb", tile_px=1200)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for name in ("ImageWidth", "ImageLength", "TileWidth", "TileLength"):
            tiff.pages[0].tags[name].overwrite(16000)
    for kind in (SlideReader, DirectReader):
        with kind(path) as slide, pytest.raises(SlideRefused, match="vips tiffsave"):
            slide.read(0, 0, 0, 64, 64)


def test_a_tile_that_claims_more_bytes_than_its_pixels_is_damaged(tmp_path: Path) -> None:
    path = make_slide(tmp_path / "a.tif", tissue_picture(700, 500), kind="jpeg-rgb", tile_px=64)
    with open(path, "ab") as file:
        file.truncate(64 << 20)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]
        tag.overwrite([60 << 20 if i == 20 else nbytes for i, nbytes in enumerate(tag.value)])
    with DirectReader(path) as slide:
        slide.read(0, 0, 0, 64, 64)
        with pytest.raises(SlideRefused, match=r"tile 20: it is said to have 62914560 bytes"):
            slide.read(0, 0, 0, 700, 500)


def test_masks_tilings_and_images_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (6000, 6000), 1).save(tmp_path / "m.png")
    with pytest.raises(SlideRefused, match="6000 x 6000 px are more than a mask needs"):
        load_mask(tmp_path / "m.png", (6000, 6000), (10, 10))
    with (tmp_path / "m.geojson").open("wb") as file:
        file.truncate(33 << 20)
    with pytest.raises(SlideRefused, match="more than 32 MiB of polygons"):
        load_mask(tmp_path / "m.geojson", (6000, 6000), (10, 10))
    import h5py

    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("coords", (3_000_000, 2), np.int64, chunks=(1024, 2))
    with pytest.raises(SlideRefused, match="has 3000000 tiles"):
        read_tiling(tmp_path / "t.h5", [(6000, 6000, 1.0)])
    with pytest.raises(ValueError, match="is no tile"):
        decode_jpeg((tmp_path / "m.png").read_bytes())
