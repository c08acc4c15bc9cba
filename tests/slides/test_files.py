"""A slide of several files is one slide, whichever of them opens it, and its identity covers them all."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from made.dicom import write_series
from PIL import Image
from pydicom.uid import generate_uid

from pipeline.base.errors import SlideRefused
from pipeline.base.store import Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.files import files_of, series_of
from pipeline.slides.identity import file_identity
from pipeline.slides.read.reader import SlideReader
from pipeline.slides.scan import scan
from pipeline.slides.table import parse_table


def listed(folder: Path) -> list[str]:
    return [row.path for row in parse_table(scan(folder), folder / "slides.csv").rows]


@pytest.mark.parametrize("suffix", ["", ".dcm"])
def test_each_series_of_a_folder_is_one_row(suffix: str, tmp_path: Path) -> None:
    first = write_series(tmp_path / "all", "a", suffix, seed=0)
    second = write_series(tmp_path / "all", "b", suffix, seed=1)
    write_series(tmp_path / "other", "a", suffix, seed=2)
    assert len({series_of(path) for path in first}) == 1 and series_of(first[0]) != series_of(second[0])
    rows = listed(tmp_path / "all")
    assert [Path(row).name for row in rows] == [first[0].name, second[0].name]
    assert len(listed(tmp_path)) == 3


def test_two_rows_of_one_series_are_the_same_slide(tmp_path: Path) -> None:
    files = write_series(tmp_path, "a", "", seed=0)
    other = write_series(tmp_path, "b", "", seed=1)
    rows = "".join(f"{path.name}\n" for path in (*files, other[1]))
    (tmp_path / "slides.csv").write_text(f"path\n{rows}")
    params = SlidesParams(table=str(tmp_path / "slides.csv"))
    made = catalogue(params, Store(tmp_path / "store"), ClusterParams(workers=1))
    assert [item.id for item in made.items] == [files[0].name, other[1].name]
    assert all("the same slide as" in refusal.reason for refusal in made.refused) and len(made.refused) == 1


def test_a_series_in_two_folders_is_one_slide_and_that_with_the_finest_level(tmp_path: Path) -> None:
    finest, coarse = write_series(tmp_path / "one", "a", ".dcm", seed=0)
    (tmp_path / "two").mkdir()
    coarse = coarse.rename(tmp_path / "two" / coarse.name)
    write_series(tmp_path / "other", "b", ".dcm", seed=1)
    (tmp_path / "slides.csv").write_text(f"path,split\n{coarse},train\n{finest},test\nother/b-1.dcm,train\n")
    params = SlidesParams(table=str(tmp_path / "slides.csv"))
    made = catalogue(params, Store(tmp_path / "store"), ClusterParams(workers=1))
    assert [item.id for item in made.items] == ["a-1", "b-1"]
    ((refusal),) = made.refused
    assert refusal.id == "a-2" and "same series as a-1" in refusal.reason
    # As its remedy says.
    coarse.rename(finest.parent / coarse.name)
    (tmp_path / "slides.csv").write_text(f"path,split\n{finest},test\nother/b-1.dcm,train\n")
    made = catalogue(params, Store(tmp_path / "store"), ClusterParams(workers=1))
    assert len(made.items) == 2 and not made.refused and len(made.items[0].levels) == 2


def test_an_identity_covers_all_files_of_a_series(tmp_path: Path) -> None:
    files = write_series(tmp_path, "a", "", seed=0)
    write_series(tmp_path, "b", "", seed=1)
    keys = set()
    for path in files:
        with SlideReader(path) as slide:
            keys.add(file_identity(slide).key)
    assert len(keys) == 1 and keys.pop().endswith(f"-{sum(path.stat().st_size for path in files)}")


def test_a_mirax_slide_is_its_index_and_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.mrxs").write_bytes(b"12")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Data0000.dat").write_bytes(b"345")
    assert [path.name for path in files_of(tmp_path / "a.mrxs")] == ["Data0000.dat", "a.mrxs"]


def test_a_hamamatsu_slide_is_what_its_index_names(tmp_path: Path) -> None:
    index = "[Virtual Microscope Specimen]\nNoLayers=1\nImageFile=a(1).jpg\nImageFile(1,0)=b.jpg\nMapFile=m.jpg\n"
    (tmp_path / "s.vms").write_text(index)
    for name in ("a(1).jpg", "b.jpg", "m.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(b"1")
    assert [path.name for path in files_of(tmp_path / "s.vms")] == ["a(1).jpg", "b.jpg", "m.jpg", "s.vms"]
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(SlideRefused, match=r"b\.jpg"):
        files_of(tmp_path / "s.vms")


def test_slides_of_several_files_are_listed_whatever_their_other_files_are_called(tmp_path: Path) -> None:
    """In the order of paths a MIRAX slide's own folder, and often a Hamamatsu slide's first image, come before it."""
    (tmp_path / "m.mrxs").write_bytes(b"12")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "Slidedat.ini").write_text("[GENERAL]\n")
    index = "[Virtual Microscope Specimen]\nNoLayers=1\nNoJpegColumns=1\nNoJpegRows=1\nImageFile=v-0.jpg\n"
    (tmp_path / "v.vms").write_text(index + "MapFile=v_map.jpg\n")
    for name in ("v-0.jpg", "v_map.jpg", "other.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert [Path(row).name for row in listed(tmp_path)] == ["m.mrxs", "v.vms"]


def test_the_data_of_a_mirax_slide_is_no_folder_of_images(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "Slidedat.ini").write_text("[GENERAL]\n")
    write_series(tmp_path, "a", ".dcm", seed=0)
    (tmp_path / "slides.csv").write_text("path\na-1.dcm\nm\n")
    params = SlidesParams(table=str(tmp_path / "slides.csv"))
    ((refusal),) = catalogue(params, Store(tmp_path / "store"), ClusterParams(workers=1)).refused
    assert "MIRAX" in refusal.reason and "m.mrxs" in refusal.fix


def test_any_other_file_is_itself(tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "x.tif")
    assert files_of(tmp_path / "x.tif") == (tmp_path / "x.tif",)
    (tmp_path / "short").write_bytes(b"\0" * 128 + b"DICM" + bytes(np.arange(7, dtype=np.uint8)))
    assert series_of(tmp_path / "short") is None and str(generate_uid())
