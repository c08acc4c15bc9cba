"""Data sets as people have them: tables from spreadsheets, HDF5 by other hands, folders with something wrong."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from made.run import folder_set
from PIL import Image

from pipeline.base.errors import EvaluationError
from pipeline.params.evaluate import DatasetParams
from pipeline.sets.contents import list_set
from pipeline.sets.listing import Picture
from pipeline.sets.tiles import contents

ROWS = "path,label,split\na.png,x,train\nb.png,y,train\nc.png,x,test\n"


def listed(kind: str, path: Path) -> dict[str, list[Picture]]:
    return list_set(DatasetParams(name="it", kind=kind, path=str(path)))


def csv_set(folder: Path, text: str) -> Path:
    for name in "abcd":
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    (folder / "sub").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(folder / "sub" / "e.png")
    (folder / "set.csv").write_bytes(text.encode())
    return folder / "set.csv"


@pytest.mark.parametrize(
    "text",
    [
        ROWS.replace(",", ";"),
        ROWS.replace(",", "\t"),
        "\ufeff" + ROWS.replace("\n", "\r\n"),
        ROWS.replace("path,label,split", "Path , LABEL,Split"),
        ROWS.replace("\n", ",,\n"),
        ROWS.replace("train", "TRAIN").replace("test", " Test "),
    ],
    ids=["semicolons", "tabs", "BOM and CRLF", "header's case", "empty columns", "split's case"],
)
def test_a_table_is_read_as_the_slide_table_is(tmp_path: Path, text: str):
    found = listed("csv", csv_set(tmp_path, text))
    assert {split: [(p.name, p.label) for p in pictures] for split, pictures in found.items()} == {
        "test": [("c.png", "x")],
        "train": [("a.png", "x"), ("b.png", "y")],
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ROWS + "\n\nd.png,x,train\nno.png,x,test\n", "line 8: file not found: no.png"),
        ("path,label\nsub\\e.png,x\n", r"write / for"),
        (ROWS + "./a.png,y,test\n", r"lists ./a.png twice \(lines 2 and 5\)"),
        (ROWS + '"d.png,x,train\n', "line 5: not valid CSV"),
        (ROWS + "\0", "is not a text file"),
        ("path,label\n", "set.csv lists no image"),
        ("path,label,label\na.png,x,y\n", "each once"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_line(tmp_path: Path, text: str, words: str):
    with pytest.raises(EvaluationError, match=words):
        listed("csv", csv_set(tmp_path, text))


def test_a_folder_where_a_table_should_be_and_the_other_way_round(tmp_path: Path):
    table = csv_set(tmp_path, ROWS)
    with pytest.raises(EvaluationError, match="`path` is a folder"):
        listed("csv", tmp_path)
    for kind in ("folder", "masks", "h5"):
        with pytest.raises(EvaluationError, match="`path` is a file"):
            listed(kind, table)


def h5_set(folder: Path, **answers: object) -> Path:
    for split, y in answers.items():
        with h5py.File(folder / f"{split}.h5", "w") as file:
            file["x"], file["y"] = np.zeros((3, 8, 8, 3), np.uint8), y
    return folder


def test_a_class_is_the_same_whatever_type_a_file_has_it_in(tmp_path: Path):
    text = np.array(["0", "1", "1"], h5py.string_dtype())
    types = {"train": np.array([0, 1, 1], np.uint8), "a": np.array([0.0, 1, 1]), "b": np.array([False, True, True])}
    found = listed("h5", h5_set(tmp_path, **types, c=text, d=np.array([b"0", b"1", b"1"])))
    assert set(found) == {"a", "b", "c", "d", "train"}
    assert all([p.label for p in pictures] == ["0", "1", "1"] for pictures in found.values())


def test_a_label_that_is_no_number_is_none(tmp_path: Path):
    found = listed("h5", h5_set(tmp_path, train=[0, 1, 1], test=[0.5, np.nan, 1]))
    assert [p.label for p in found["test"]] == ["0.5", None, "1"]


def test_two_files_of_one_split_are_refused_and_neither_taken(tmp_path: Path):
    h5_set(tmp_path, train=[0, 1, 1], test=[0, 1, 1])
    for part in "xy":
        (tmp_path / f"other_train_{part}.h5").write_bytes((tmp_path / "train.h5").read_bytes())
    with pytest.raises(EvaluationError, match=r"other_train_x.h5 and train.h5 are both of split 'train'"):
        listed("h5", tmp_path)


def test_h5_with_other_names_says_which_it_has(tmp_path: Path):
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file["images"], file["y"] = np.zeros((3, 8, 8, 3), np.uint8), np.zeros(3)
        file.create_group("x")
    with pytest.raises(EvaluationError, match=r"train.h5 has no x that is a dataset; it holds images, x, y"):
        listed("h5", tmp_path)


def test_a_slide_of_two_splits_is_a_leak_in_whatever_spelling_and_with_row_numbers(tmp_path: Path):
    h5_set(tmp_path, train=[0, 1, 1], test=[0, 1, 1])
    (tmp_path / "train_meta.csv").write_text(",wsi\n0,3\n1,4\n2,5\n")
    (tmp_path / "test_meta.csv").write_text("wsi;tumour\n003;0\n6;1\n7;1\n")
    with pytest.raises(EvaluationError, match="is in 'train' and in 'test'"):
        listed("h5", tmp_path)


def test_classes_that_look_alike_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    listed("csv", csv_set(tmp_path, "path,label,split\na.png,X,train\nb.png,y,train\nc.png,x,test\n"))
    assert "'X', 'x' are classes of their own" in " ".join(capsys.readouterr().err.split())


def test_h5_slides_in_another_encoding_are_refused(tmp_path: Path):
    h5_set(tmp_path, train=[0, 1, 1], test=[0, 1, 1])
    (tmp_path / "train_meta.csv").write_bytes("wsi\nDrüse\na\nb\n".encode("latin-1"))
    with pytest.raises(EvaluationError, match=r"train_meta.csv cannot be read"):
        listed("h5", tmp_path)


@pytest.mark.parametrize("chunks", [None, (4, 4, 4, 1), (1, 8, 8, 3)])
def test_rows_of_h5_are_the_rows_asked_for(tmp_path: Path, chunks: tuple[int, ...] | None):
    x_NHWC = np.random.default_rng(0).integers(0, 255, (11, 8, 8, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file.create_dataset("x", data=x_NHWC, chunks=chunks)
    rows = [0, 1, 5, 8, 10]
    pictures = [Picture(str(i), tmp_path / "train.h5", index=i) for i in rows]
    found = [(picture.index, np.asarray(data)) for picture, data in contents(pictures)]
    assert [index for index, _ in found] == rows
    assert all((data == x_NHWC[index]).all() for index, data in found)


def test_h5_with_a_damaged_chunk_is_named(tmp_path: Path):
    with h5py.File(tmp_path / "train.h5", "w") as file:
        noise = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), dtype=np.uint8)
        file.create_dataset("x", data=noise, chunks=(1, 8, 8, 3), fletcher32=True)
    with h5py.File(tmp_path / "train.h5") as file:
        start = file["x"].id.get_chunk_info(2).byte_offset
    damaged = bytearray((tmp_path / "train.h5").read_bytes())
    damaged[start + 5] ^= 1
    (tmp_path / "train.h5").write_bytes(damaged)
    with pytest.raises(EvaluationError, match=r"train.h5: cannot be read"):
        list(contents([Picture("2", tmp_path / "train.h5", index=2)]))


def test_a_split_without_images_is_named_with_its_place(tmp_path: Path):
    root = folder_set(tmp_path / "s", {"train": 1, "test": 1})
    (root / "docs").mkdir()
    with pytest.raises(EvaluationError, match="it: docs: the folder is empty"):
        listed("folder", root)


def masks_of(root: Path, **names: tuple[list[str], list[str]]) -> Path:
    for split, parts in names.items():
        for part, files, mode in zip(("images", "masks"), parts, ("RGB", "L"), strict=True):
            (root / split / part).mkdir(parents=True)
            for file in files:
                Image.new(mode, (8, 8)).save(root / split / part / file)
    return root


def test_a_mask_without_an_image_is_named(tmp_path: Path):
    root = masks_of(tmp_path, train=(["a.png"], ["a.png"]), test=(["b.png"], ["b.png", "c.png"]))
    with pytest.raises(EvaluationError, match=r"test/masks/c.png has no image \(1 such masks\)"):
        listed("masks", root)


def test_two_masks_of_one_image_are_named(tmp_path: Path):
    root = masks_of(tmp_path, train=(["a.png"], ["a.png"]), test=(["b.png"], ["b.bmp", "b.png"]))
    with pytest.raises(EvaluationError, match=r"test/masks has b.bmp and b.png"):
        listed("masks", root)
