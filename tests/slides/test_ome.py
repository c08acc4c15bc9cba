"""An OME-TIFF's scale is read from its XML; a TIFF whose first page is not its largest is no slide of that page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from made.slides import KINDS, tissue_picture

from pipeline.base.errors import SlideRefused
from pipeline.slides.ome import physical_size
from pipeline.slides.read.reader import SlideReader
from pipeline.slides.scan import scan
from pipeline.slides.table import parse_table

SIZE = (640, 480)
NAMESPACE = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'


def pixels(size: tuple[int, int] = SIZE, **said: str) -> str:
    words = " ".join(f'{name}="{value}"' for name, value in said.items())
    return f'<Image ID="Image:0"><Pixels ID="Pixels:0" SizeX="{size[0]}" SizeY="{size[1]}" {words}/></Image>'


def ome(*images: str, prefix: str = "") -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><OME {NAMESPACE}>{prefix}{"".join(images)}</OME>'


X, Y, UNIT_X, UNIT_Y = "PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeXUnit", "PhysicalSizeYUnit"


@pytest.mark.parametrize(
    ("said", "um"),
    [
        ({X: "0.25", Y: "0.26"}, (0.25, 0.26)),
        ({X: "0.25", Y: "0.25", UNIT_X: "\u00b5m", UNIT_Y: "\u03bcm"}, (0.25, 0.25)),
        ({X: "250", Y: "250", UNIT_X: "nm", UNIT_Y: "nm"}, (0.25, 0.25)),
        ({X: "0.0005", Y: "0.0005", UNIT_X: "mm", UNIT_Y: "mm"}, (0.5, 0.5)),
        ({X: "1", Y: "1", UNIT_X: "pixel", UNIT_Y: "pixel"}, None),
        ({X: "0.25"}, None),
        ({X: "a", Y: "b"}, None),
        ({}, None),
    ],
)
def test_lengths_come_with_their_units(said: dict[str, str], um: tuple[float, float] | None) -> None:
    assert physical_size(ome(pixels(**said)), SIZE) == (um and pytest.approx(um))


def test_of_several_images_the_one_of_the_slides_size_counts() -> None:
    label, slide = (
        pixels((100, 50), PhysicalSizeX="9", PhysicalSizeY="9"),
        pixels(PhysicalSizeX="0.5", PhysicalSizeY="0.5"),
    )
    assert physical_size(ome(label, slide), SIZE) == (0.5, 0.5)
    assert physical_size(ome(label, label), SIZE) is None


@pytest.mark.parametrize("text", ["", "Aperio Image Library", "<OME", "<OME></OM>", "<OME/>"])
def test_what_is_no_ome_xml_says_nothing(text: str) -> None:
    assert physical_size(text, SIZE) is None


def write(path: Path, description: str | None = None, **tags: Any) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        text = None if description is None else description.encode()
        picture = tissue_picture(*SIZE)
        tiff.write(picture, tile=(128, 128), description=text, metadata=None, **tags, **KINDS["deflate"])
    return path


def test_a_slide_with_its_scale_in_the_xml_alone_is_read(tmp_path: Path) -> None:
    said = {X: "0.32", Y: "0.32", UNIT_X: "\u00b5m", UNIT_Y: "\u00b5m"}
    for name, tags in (("alone", {}), ("screen", {"resolution": (72, 72), "resolutionunit": "INCH"})):
        with SlideReader(write(tmp_path / f"{name}.ome.tif", ome(pixels(**said)), **tags)) as slide:
            assert slide.mpp_xy == (0.32, 0.32) and slide.mpp_from == "ome"
    with pytest.raises(SlideRefused, match="no mpp"):
        SlideReader(write(tmp_path / "nothing.ome.tif", ome(pixels())))


@pytest.mark.parametrize(
    "later", ["tiled", "in strips", "a sub-page", "a sub-page said to be reduced", "a reduced page"]
)
def test_a_first_page_that_is_not_the_largest_is_refused(later: str, tmp_path: Path) -> None:
    picture, path = tissue_picture(512, 512), tmp_path / "s.tif"
    tags: dict[str, Any] = {"metadata": None, "resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    tile = {"tile": (128, 128)}
    with tifffile.TiffWriter(path) as tiff:
        subifds = 1 if later.startswith("a sub-page") else None
        reduced = {"subfiletype": int("reduced" in later)}
        tiff.write(np.ascontiguousarray(picture[::4, ::4]), subifds=subifds, **tile, **tags, **KINDS["deflate"])
        tiff.write(picture, **({} if later == "in strips" else tile), **reduced, **tags, **KINDS["deflate"])
    with pytest.raises(SlideRefused, match="first page is not its largest: 128 x 128 px, and another has 512 x 512"):
        SlideReader(path)


def test_a_small_slide_with_its_scale_in_the_xml_or_with_levels_is_listed(tmp_path: Path) -> None:
    said = {X: "0.5", Y: "0.5", UNIT_X: "\u00b5m", UNIT_Y: "\u00b5m"}
    write(tmp_path / "scale.ome.tif", ome(pixels(**said)))
    write(tmp_path / "tile.ome.tif", ome(pixels()))
    with tifffile.TiffWriter(tmp_path / "levels.tif") as tiff:
        picture = tissue_picture(*SIZE)
        tiff.write(picture, tile=(128, 128), subifds=1, metadata=None, **KINDS["deflate"])
        tiff.write(
            np.ascontiguousarray(picture[::2, ::2]), tile=(128, 128), subfiletype=1, metadata=None, **KINDS["deflate"]
        )
    rows = parse_table(scan(tmp_path), tmp_path).rows
    assert [Path(row.path).name for row in rows] == ["levels.tif", "scale.ome.tif"]


def test_a_photograph_of_the_glass_may_be_larger_than_a_small_slide(tmp_path: Path) -> None:
    path = tmp_path / "s.tif"
    tags: dict[str, Any] = {"metadata": None, "resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(tissue_picture(256, 256), tile=(128, 128), **tags, **KINDS["deflate"])
        tiff.write(tissue_picture(900, 300), **tags, **KINDS["deflate"])
    with SlideReader(path) as slide:
        assert (slide.width_px, slide.height_px) == (256, 256)
