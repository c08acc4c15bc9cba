"""What a data set lists, what is wrong with one, and how pictures with masks are cut."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.run import folder_set
from PIL import Image

from pipeline.base.errors import EvaluationError
from pipeline.evaluate.trust.leaks import difference_hash
from pipeline.params.evaluate import DatasetParams
from pipeline.sets.contents import list_set
from pipeline.sets.listing import Picture
from pipeline.sets.masks import Masks
from pipeline.sets.tiles import evenly, places


def listed(kind: str, path: Path) -> dict[str, list[Picture]]:
    return list_set(DatasetParams(name="it", kind=kind, path=str(path)))


def csv_set(folder: Path, text: str, names: str = "abcd") -> Path:
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    (folder / "set.csv").write_text(text)
    return folder / "set.csv"


def test_a_folder_has_splits_and_classes(tmp_path: Path):
    found = listed("folder", folder_set(tmp_path / "s", {"train": 2, "test": 1}))
    assert [len(found[split]) for split in ("train", "test")] == [6, 3]
    assert [picture.label for picture in found["test"]] == ["fat", "gland", "stroma"]


def test_what_is_left_out_of_a_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = folder_set(tmp_path / "s", {"train": 2, "test": 1})
    (folder / "train" / "fat" / os.fsdecode(b"Dr\xfcse.png")).write_bytes(b"")
    for n in range(6):
        (folder / "test" / "fat" / f"{n}.gif").touch()
    listed("folder", folder)
    said = " ".join(capsys.readouterr().err.split())
    assert r"Dr\udcfcse.png (its name is not UTF-8" in said and "4.gif" in said and "and 1 more" in said


def test_a_csv_without_splits_holds_out_whole_groups(tmp_path: Path):
    rows = "".join(f"{name},x,P{i // 2}\n" for i, name in enumerate(f"{n}.png" for n in "abcdefgh"))
    found = listed("csv", csv_set(tmp_path, "path,label,group\n" + rows, "abcdefgh"))
    groups = {split: {picture.group for picture in pictures} for split, pictures in found.items()}
    assert not groups["train"] & groups["test"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,lable\na.png,x\n", "has the columns lable, path"),
        ("path,label,split\na.png,x,train\nno.png,x,test\n", "line 3: file not found"),
        ("path,label,split\na.png,x,train\na.png,y,test\n", "lists a.png twice"),
        ("path,label,split\na.png,x,train\nb.png,x,train\n", "needs|need 'train' and a held-out one"),
        ("path,label,split,group\na.png,x,train,P\nb.png,x,test,P\n", "patient 'P'"),
        ("path,label,split\na.png,x,train\nb.png,adeno, NOS,test\n", "line 3 has more cells than the 3 columns"),
    ],
)
def test_what_is_wrong_with_a_csv(tmp_path: Path, text: str, words: str):
    with pytest.raises(EvaluationError, match=words):
        listed("csv", csv_set(tmp_path, text))


def test_a_csv_of_another_encoding_is_named(tmp_path: Path):
    csv_set(tmp_path, "")
    (tmp_path / "set.csv").write_bytes("path,label,split\na.png,Drüse,train\n".encode("latin-1"))
    with pytest.raises(EvaluationError, match=r"is not UTF-8: .* at byte 25"):
        listed("csv", tmp_path / "set.csv")


def test_a_set_that_is_not_there(tmp_path: Path):
    with pytest.raises(EvaluationError, match="is not there"):
        listed("folder", tmp_path / "nowhere")


def test_an_image_without_a_mask_is_named(tmp_path: Path):
    for part in ("images", "masks"):
        (tmp_path / "train" / part).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "images" / "one.png")
    Image.new("L", (8, 8)).save(tmp_path / "train" / "masks" / "other.png")
    with pytest.raises(EvaluationError, match=r"train/images/one.png has no mask"):
        listed("masks", tmp_path)


def test_h5_of_another_shape_says_which(tmp_path: Path):
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file["x"], file["y"] = np.zeros((3, 8, 8), np.uint8), np.zeros(3)
    with pytest.raises(EvaluationError, match=r"train.h5: x is uint8\(3, 8, 8\)"):
        listed("h5", tmp_path)


def test_h5_without_labels_says_so(tmp_path: Path):
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file["x"] = np.zeros((3, 8, 8, 3), np.uint8)
    with pytest.raises(EvaluationError, match="no y"):
        listed("h5", tmp_path)


def h5_split(folder: Path, split: str, slides: list[str], column: str = "wsi") -> None:
    with h5py.File(folder / f"{split}_x.h5", "w") as x, h5py.File(folder / f"{split}_y.h5", "w") as y:
        x["x"], y["y"] = np.zeros((3, 8, 8, 3), np.uint8), np.arange(3)
    (folder / f"{split}_meta.csv").write_text("\n".join([column, *slides]) + "\n")


def test_h5_has_its_slides_as_groups_and_a_slide_in_two_splits_is_a_leak(tmp_path: Path):
    h5_split(tmp_path, "train", ["s1", "s1", "s2"])
    h5_split(tmp_path, "test", ["s3", "s4", "s4"])
    assert [picture.group for picture in listed("h5", tmp_path)["test"]] == ["s3", "s4", "s4"]
    h5_split(tmp_path, "test", ["s3", "s2", "s4"])
    with pytest.raises(EvaluationError, match="group 's2' is in 'train' and in 'test'"):
        listed("h5", tmp_path)


@pytest.mark.parametrize(
    ("slides", "column", "words"),
    [(["s3", "s2"], "wsi", "has 2 rows for 3 images"), (["s3", "s2", "s4"], "slide", "and the columns slide")],
)
def test_h5_with_slides_that_do_not_match_is_refused_and_not_read_without_them(tmp_path: Path, slides, column, words):
    """Read without them, slide s2 in both splits would pass."""
    h5_split(tmp_path, "train", ["s1", "s1", "s2"])
    h5_split(tmp_path, "test", slides, column)
    with pytest.raises(EvaluationError, match=words):
        listed("h5", tmp_path)


@given(width=st.integers(1, 200), height=st.integers(1, 200), tile_px=st.integers(1, 64))
def test_every_pixel_is_fresh_in_just_one_tile(width: int, height: int, tile_px: int):
    count_HW = np.zeros((height, width), int)
    for place in places(width, height, tile_px):
        assert 0 <= place.x <= width - tile_px and 0 <= place.y <= height - tile_px
        count_HW[place.fresh_y : place.y + tile_px, place.fresh_x : place.x + tile_px] += 1
    assert (count_HW == (1 if width >= tile_px and height >= tile_px else 0)).all()


def pictures_with_mask(folder: Path, value_HW: np.ndarray, mode: str = "L") -> Picture:
    Image.new("RGB", value_HW.shape[1::-1]).save(folder / "image.png")
    Image.fromarray(value_HW).convert(mode).save(folder / "mask.png")
    return Picture("image.png", folder / "image.png", mask=folder / "mask.png")


def test_a_mask_in_colours_is_refused(tmp_path: Path):
    with pytest.raises(EvaluationError, match="the mask is RGB"):
        Masks([pictures_with_mask(tmp_path, np.zeros((8, 8), np.uint8), "RGB")])


def test_masks_of_one_class_are_refused(tmp_path: Path):
    with pytest.raises(EvaluationError, match="have 1 values"):
        Masks([pictures_with_mask(tmp_path, np.full((8, 8), 255, np.uint8))])


def test_a_limit_is_spread_evenly():
    pictures = [Picture(str(i), Path()) for i in range(10)]
    assert [p.name for p in evenly(pictures, 3)] == ["0", "3", "6"]
    assert evenly(pictures, 20) == pictures


def test_the_difference_hash_of_a_ramp():
    ramp = np.tile(np.linspace(0, 255, 90).astype(np.uint8)[None, :, None], (80, 1, 3))
    assert difference_hash(ramp).all() and not difference_hash(ramp[:, ::-1]).any()
