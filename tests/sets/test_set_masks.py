"""Masks: what is refused before it becomes a class, and that only the masks asked for are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import EvaluationError
from pipeline.sets.listing import Picture
from pipeline.sets.masks import Masks, check_masks
from pipeline.sets.tiles import within
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg


def picture(folder: Path, name: str = "one", size: tuple[int, int] = (16, 16), suffix: str = ".png") -> Picture:
    (folder / "masks").mkdir(exist_ok=True)
    Image.new("RGB", size).save(folder / f"{name}.png")
    mask_HW = np.zeros(size[::-1], np.uint8)
    mask_HW[:, size[0] // 2 :] = 255
    Image.fromarray(mask_HW).save(folder / "masks" / f"{name}{suffix}")
    return Picture(name, folder / f"{name}.png", mask=folder / "masks" / f"{name}{suffix}")


def test_a_mask_stored_with_loss_is_refused(tmp_path: Path):
    """Its borders have values that nobody drew: each would be a class."""
    with pytest.raises(EvaluationError, match="the mask is a JPEG"):
        check_masks([picture(tmp_path, suffix=".jpg")])


def test_an_image_that_viewers_turn_is_refused(tmp_path: Path):
    """Square, so that its size tells nothing: decoders give it as stored, and who drew the mask saw it turned."""
    one, exif = picture(tmp_path), Image.Exif()
    exif[0x0112] = 3
    with Image.open(one.path) as image:
        image.save(one.path, exif=exif)
    with pytest.raises(EvaluationError, match=r"masks/one.png: one is to be turned by its EXIF orientation"):
        check_masks([one])


def test_a_mask_that_pillow_takes_for_a_bomb_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one = picture(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(EvaluationError, match=r"masks/one.png: the mask cannot be read"):
        check_masks([one])


def test_masks_are_made_of_the_tiles_asked_for_alone(tmp_path: Path):
    one, two = (picture(tmp_path, name, (32, 16)) for name in ("one", "two"))
    writer = TileWriter(tmp_path / "item")
    for i in range(2):
        for x in (0, 16):
            writer.append(encode_jpeg(np.zeros((16, 16, 3), np.uint8), 95), x_l0=x, source=str(i))
    writer.close(Meta(kind="file", tile_px=1))
    # The mask of the picture whose tiles are not wanted is not even there.
    Path(str(one.mask)).unlink()
    mask_NHW = Masks([two]).of_tiles(tmp_path / "item", np.array([3, 2]), [one, two], 16)
    assert mask_NHW.shape == (2, 16, 16) and (mask_NHW[0] == 1).all() and (mask_NHW[1] == 0).all()


def test_large_pictures_are_taken_by_the_tiles_that_they_give(tmp_path: Path):
    pictures = [picture(tmp_path, str(i), (64, 48)) for i in range(6)]
    assert within(pictures, 100, 16) == pictures
    assert [p.name for p in within(pictures, 40, 16)] == ["0", "2", "4"]
    assert [p.name for p in within(pictures, 5, 16)] == ["0"]
