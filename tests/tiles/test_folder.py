"""A folder of images is its own tiles."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from made.slides import tissue_picture
from PIL import Image

from pipeline.base.errors import SlideRefused
from pipeline.params.tiles import TilesParams
from pipeline.tiles.folder import write_folder_tiles
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import encode_jpeg


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes: plain JPEGs of 64 px, a PNG, a progressive JPEG of another size, a truncated one, a text file."""
    folder = tmp_path / "images"
    for name in ("b", "a"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            (folder / name / f"{i}.jpg").write_bytes(encode_jpeg(tissue_picture(64, 64, i), 80))
    Image.fromarray(tissue_picture(64, 64)).save(folder / "a" / "p.png")
    Image.fromarray(tissue_picture(90, 80)).save(folder / "b" / "q.jpg", progressive=True)
    (folder / "a" / "short.jpg").write_bytes((folder / "a" / "0.jpg").read_bytes()[:-300])
    (folder / "b" / "text.png").write_text("no image")
    return folder


def tile(images: Path, out: Path, **params: int) -> TileReader:
    out.mkdir()
    write_folder_tiles(images, out, TilesParams(tile_px=64, **params))
    return TileReader(out)


def test_images_are_tiles_in_the_order_of_their_paths_with_their_folders_as_labels(
    images: Path, tmp_path: Path
) -> None:
    tiles = tile(images, tmp_path / "out")
    names = ["a/0.jpg", "a/1.jpg", "a/2.jpg", "a/p.png", "b/0.jpg", "b/1.jpg", "b/2.jpg", "b/q.jpg"]
    assert tiles.table["source"].to_pylist() == names
    assert tiles.labels == ["a"] * 4 + ["b"] * 4
    assert tiles.table["tissue"].to_pylist() == [1.0] * 8
    assert set(tiles.table["x_l0"].to_pylist()) == set(tiles.table["y_l0"].to_pylist()) == {0}


def test_plain_jpegs_are_kept_byte_for_byte_and_others_encoded(images: Path, tmp_path: Path) -> None:
    tiles = tile(images, tmp_path / "out")
    for row, name in enumerate(tiles.table["source"].to_pylist()):
        same = tiles.jpeg(row) == (images / name).read_bytes()
        assert same == (name not in ("a/p.png", "b/q.jpg"))
        with Image.open(io.BytesIO(tiles.jpeg(row))) as image:
            assert image.format == "JPEG" and not image.info.get("progressive")
    assert tiles.image(7).shape == (80, 90, 3) and tiles.image(7, 64).shape == (64, 64, 3)


def test_what_does_not_decode_is_left_out_and_counted(images: Path, tmp_path: Path) -> None:
    assert tile(images, tmp_path / "out").meta.dropped == {"damaged": 2, "limit": 0}


def test_a_limit_draws_from_all_of_it(images: Path, tmp_path: Path) -> None:
    tiles = tile(images, tmp_path / "out", max_tiles_per_slide=4)
    assert tiles.meta.dropped["limit"] == 6
    assert set(tiles.labels) == {"a", "b"}
    # For the two that do not decode others are drawn.
    assert len(tile(images, tmp_path / "eight", max_tiles_per_slide=8)) == 8


def test_a_folder_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.jpg").write_bytes(b"\xff\xd8 nothing")
    with pytest.raises(SlideRefused, match="none of its 1 images decodes"):
        tile(tmp_path / "bad", tmp_path / "out")


def test_people_get_a_contact_sheet(images: Path, tmp_path: Path) -> None:
    tile(images, tmp_path / "out")
    sheets = [(tmp_path / "out" / name).read_bytes() for name in ("thumb.jpg", "mosaic.jpg")]
    assert sheets[0] == sheets[1]
    with Image.open(io.BytesIO(sheets[0])) as image:
        assert np.asarray(image).std() > 20


def test_what_becomes_no_tile_is_named(images: Path, tmp_path: Path) -> None:
    (images / "a" / "moving.gif").write_bytes(b"GIF89a")
    (images / "b" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    left_out = dict(tile(images, tmp_path / "out").meta.left_out)
    assert set(left_out) == {"a/short.jpg", "b/text.png", "a/moving.gif", r"b/caf\udce9.png"}
    assert "convert it" in left_out["a/moving.gif"] and "UTF-8" in left_out[r"b/caf\udce9.png"]
    assert "damaged" in left_out["a/short.jpg"]
    Image.fromarray(np.zeros((8, 8), np.float32)).save(images / "b" / "float.tif")
    left_out = dict(tile(images, tmp_path / "again").meta.left_out)
    assert "not an image of 8 or 16 bits" in left_out["b/float.tif"]
