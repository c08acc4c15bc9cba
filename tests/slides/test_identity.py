"""A slide stays itself wherever it lies; other content is another slide."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from made.slides import make_slide, set_tag, tissue_picture
from PIL import Image

from pipeline.base.errors import SlideRefused, SlideUnavailable
from pipeline.base.store import Ref
from pipeline.demo.slides import SLIDE_FILE
from pipeline.slides.identity import Identity, file_identity, folder_identity
from pipeline.slides.images import list_images
from pipeline.slides.read.reader import SlideReader


def identity(path: Path) -> Identity:
    with SlideReader(path) as slide:
        return file_identity(slide)


def images(folder: Path) -> Path:
    for i, name in enumerate(("b/2.png", "a/1.jpg", "a/deeper/3.PNG", "0.png", ".hidden/4.png", "a/.5.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i * 20, 0, 0)).save(folder / name)
    (folder / "a" / "notes.txt").write_text("not an image")
    return folder


def test_a_copied_renamed_and_touched_slide_is_the_same(demo_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "another name.tif"
    shutil.copyfile(demo_folder / SLIDE_FILE, copy)
    os.utime(copy, (1, 1))
    assert identity(copy) == identity(demo_folder / SLIDE_FILE)
    assert Ref("tiles", "recipe", identity(copy).key)


def test_without_a_quickhash_the_whole_content_counts(demo_folder: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "a.tif", bytearray((demo_folder / SLIDE_FILE).read_bytes())
    found = []
    for _ in range(2):
        path.write_bytes(data)
        with SlideReader(path) as slide:
            slide.quickhash = None
            found.append(file_identity(slide).digest)
        # Of a tile of the finest level, which opening does not look at.
        data[len(data) // 4] ^= 1
    assert found[0] != found[1]


def test_a_scale_put_right_in_place_is_another_slide(tmp_path: Path) -> None:
    """Resolution tags are no part of the quickhash."""
    picture = tissue_picture(600, 500)
    before, after = (make_slide(tmp_path / f"{mpp}.tif", picture, (mpp, mpp), kind="jpeg-rgb") for mpp in (0.5, 0.25))
    with SlideReader(before) as one, SlideReader(after) as other, SlideReader(before, mpp=0.25) as told:
        assert one.quickhash == other.quickhash
        assert len({file_identity(reader).digest for reader in (one, other)}) == 2
        assert file_identity(told).digest == file_identity(other).digest


def test_colours_put_right_in_place_are_another_slide(tmp_path: Path) -> None:
    """What the tags say of the colours is no part of the quickhash either."""
    path, found = make_slide(tmp_path / "s.tif", tissue_picture(600, 500), kind="jpeg-ycbcr-444"), []
    for photometric in (2, 6):
        set_tag(path, 0, PhotometricInterpretation=photometric)
        with SlideReader(path) as slide:
            found.append((slide.quickhash, slide.read(0, 300, 250, 8, 8).mean(), identity(path)))
    (wrong, wrong_mean, before), (right, right_mean, after) = found
    assert wrong == right and abs(wrong_mean - right_mean) > 5 and before != after


def test_images_are_listed_in_order_with_the_class_of_their_first_folder(tmp_path: Path) -> None:
    expected = [("0.png", None), ("a/1.jpg", "a"), ("a/deeper/3.PNG", "a"), ("b/2.png", "b")]
    assert list_images(images(tmp_path)) == expected


def test_a_folder_of_images_is_its_names_and_contents(tmp_path: Path) -> None:
    first = folder_identity(images(tmp_path / "one"))
    second = tmp_path / "two"
    shutil.copytree(tmp_path / "one", second)
    (second / "a" / "notes.txt").unlink()
    assert folder_identity(second) == first
    (second / "0.png").rename(second / "9.png")
    renamed = folder_identity(second)
    assert renamed.digest != first.digest and renamed.nbytes == first.nbytes


def test_an_image_that_is_a_link_to_what_is_not_here_is_not_lost_in_silence(tmp_path: Path) -> None:
    folder = images(tmp_path)
    (folder / "annexed.png").symlink_to("../objects/annexed.png")
    with pytest.raises(SlideUnavailable, match=r"annexed.png is a link to what is not here"):
        list_images(folder)
    (folder / "annexed.png").unlink()
    (folder / "circle").symlink_to("circle")
    assert len(list_images(folder)) == 4


def test_a_folder_without_images_is_refused_and_an_empty_one_may_be_a_disk_away(tmp_path: Path) -> None:
    with pytest.raises(SlideUnavailable, match="the folder is empty"):
        folder_identity(tmp_path)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(SlideRefused, match="no image"):
        folder_identity(tmp_path)
