"""A slide that nobody has touched is not opened again, and one that somebody has is, whatever its times say."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made.slides import make_slide, tissue_picture
from PIL import Image

from pipeline.base.items import SlideFile
from pipeline.base.store import Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.slides import looked
from pipeline.slides.catalogue import catalogue
from pipeline.slides.sources import sources

REMEMBERED = "remembered"


def look(root: Path, mpp: str = "0.5") -> SlideFile:
    (root / "slides.csv").write_text(f"path,slide_id,mpp,mask\na.tif,a,{mpp},mask.png\n")
    params = SlidesParams(table=str(root / "slides.csv"))
    (item,) = catalogue(params, Store(root / "store"), ClusterParams(workers=1)).items
    return item


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A slide with a mask that was looked at; what is remembered of it says another vendor, so that it shows."""
    monkeypatch.setattr(looked, "_TICK_S", -1.0)
    make_slide(tmp_path / "a.tif", tissue_picture(512, 512))
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(tmp_path / "mask.png")
    vendor = look(tmp_path).vendor
    (file,) = (tmp_path / "store" / looked.FOLDER).iterdir()
    text = file.read_text()
    assert f'"vendor":"{vendor}"' in text
    file.write_text(text.replace(f'"vendor":"{vendor}"', f'"vendor":"{REMEMBERED}"'))
    return tmp_path


def edited_in_place(root: Path) -> None:
    """One byte in the middle of the file, its times set back."""
    before = (root / "a.tif").stat()
    with open(root / "a.tif", "r+b") as file:
        file.seek(before.st_size // 2)
        file.write(b"x")
    os.utime(root / "a.tif", ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(root: Path) -> None:
    """By a copy with the same times."""
    before = (root / "a.tif").stat()
    (root / "b.tif").write_bytes((root / "a.tif").read_bytes())
    os.utime(root / "b.tif", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(root / "b.tif", root / "a.tif")


def another_mask(root: Path) -> None:
    Image.fromarray(np.full((64, 64), 128, np.uint8)).save(root / "mask.png")


def damaged_memory(root: Path) -> None:
    (file,) = (root / "store" / looked.FOLDER).iterdir()
    file.write_bytes(file.read_bytes()[:-9])


def test_an_untouched_slide_is_as_it_was(lab: Path) -> None:
    assert look(lab).vendor == REMEMBERED and look(lab).vendor == REMEMBERED
    assert look(lab, mpp="0.25").vendor != REMEMBERED, "the table says another resolution"


@pytest.mark.parametrize("change", [edited_in_place, replaced, another_mask, damaged_memory])
def test_a_change_of_any_kind_is_looked_at(change: Callable[[Path], None], lab: Path) -> None:
    change(lab)
    assert look(lab).vendor != REMEMBERED


def test_what_was_changed_within_a_clocks_tick_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_slide(tmp_path / "a.tif", tissue_picture(512, 512))
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(tmp_path / "mask.png")
    look(tmp_path)
    assert not (tmp_path / "store" / looked.FOLDER).exists()


def test_the_digest_of_features_is_known_with_the_mark_that_their_file_had(lab: Path) -> None:
    features, table = lab / "a.h5", lab / "features.csv"
    features.write_bytes(b"of a tool")
    table.write_text("path,slide_id,mpp,features\na.tif,a,0.5,a.h5\n")
    params, store = SlidesParams(table=str(table)), Store(lab / "store")
    (item,) = catalogue(params, store, ClusterParams(workers=1)).items
    source = sources(table, store, params)["a"]
    assert looked.Memory(store.root, table).features(source) == (looked.mark(str(features)), item.features)
    without = dataclasses.replace(source, features=None)
    assert looked.Memory(store.root, table).features(without) is None
    assert looked.Memory(store.root, lab / "other.csv").features(source) is None
