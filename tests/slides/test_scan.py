"""`histill scan` lists slides: each once, under its own name, and no picture that only shows one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made.dicom import write_series
from made.slides import make_slide, tissue_picture
from PIL import Image

from pipeline.base.errors import TableError
from pipeline.slides.ids import default_id
from pipeline.slides.picture_folders import MOST_CLASSES, Grouping
from pipeline.slides.scan import scan, slides_below
from pipeline.slides.table import Row, parse_table


def listed(folder: Path, grouping: Grouping = Grouping.AUTO) -> tuple[list[Row], list[str]]:
    """The rows of the table, which all can be read, and its comments."""
    text = scan(folder, grouping)
    table = parse_table(text, Path("slides.csv"))
    assert not table.refused
    return table.rows, [line for line in text.splitlines() if line.startswith("#")]


def slide(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return make_slide(path, tissue_picture(600, 500), (0.5, 0.5), kind="jpeg-rgb")


def picture(path: Path, side_px: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side_px, side_px, 3), 200, np.uint8)).save(path)
    return path


def names(rows: list[Row]) -> list[str]:
    return sorted(Path(row.path).name for row in rows)


def test_pictures_beside_slides_are_not_tiles(tmp_path: Path) -> None:
    slide(tmp_path / "a.tif"), slide(tmp_path / "b.tif")
    picture(tmp_path / "a_thumb.jpg")
    rows, said = listed(tmp_path)
    assert names(rows) == ["a.tif", "b.tif"]
    assert any("1 picture" in line and "beside slides" in line for line in said)


SHOWING = ["thumbnails/a.jpg", "pictures/a.png", "pictures/a_overview.png", "job/qc/x.png", "Snapshots/1.png"]
SHOWING += ["associated_images/i.jpg", "slides/sub/gross/p.jpg", "slide_thumbs_512/x.png", "QC-masks/x.png"]


@pytest.mark.parametrize("where", SHOWING)
def test_a_folder_of_pictures_of_slides_is_not_a_slide(where: str, tmp_path: Path) -> None:
    slide(tmp_path / "slides" / "a.tif")
    picture(tmp_path / where)
    rows, said = listed(tmp_path)
    assert names(rows) == ["a.tif"] and any("not listed" in line for line in said)


def test_pictures_of_other_sizes_than_tiles_have_are_not_listed_where_there_are_slides(tmp_path: Path) -> None:
    slide(tmp_path / "slides" / "a.tif")
    for n in range(4):
        picture(tmp_path / "many sizes" / f"{n}.png", 60 + n)
    Image.new("RGB", (1600, 1200)).save(picture(tmp_path / "large" / "1.png"))
    picture(tmp_path / "slides" / "tiles" / "1.png")
    rows, said = listed(tmp_path)
    assert names(rows) == ["a.tif", "tiles"] and sum("tiles" in line and "not listed" in line for line in said) == 2


def test_a_folder_with_slides_in_it_is_never_listed(tmp_path: Path) -> None:
    slide(tmp_path / "case" / "a.tif")
    for name in ("case/AC/1.png", "case/H/1.png", "top.png"):
        picture(tmp_path / name)
    for grouping in Grouping:
        assert names(listed(tmp_path, grouping)[0]) == ["AC", "H", "a.tif"]


def test_masks_beside_images_are_no_class_and_what_is_told_decides(tmp_path: Path) -> None:
    for name in ("images/1.png", "images/2.png", "masks/1.png", "masks/2.png"):
        picture(tmp_path / "set" / name)
    rows, said = listed(tmp_path)
    assert names(rows) == ["images"] and any("--folders classes" in line for line in said)
    rows, said = listed(tmp_path, Grouping.CLASSES)
    assert names(rows) == ["set"] and any("masks, its class" in line for line in said)
    assert names(listed(tmp_path / "set" / "masks")[0]) == ["masks"]


def test_class_folders_whose_tiles_bear_their_names_are_classes_and_numbers_are_slides(tmp_path: Path) -> None:
    for name in ("NCT/ADI/ADI-AAAFLCLY.tif", "NCT/BACK/BACK-TCGA-AAKLMN.tif"):
        picture(tmp_path / name)
    for name in ("cohort/1000/x1_y2.png", "cohort/1001/x1_y2.png"):
        picture(tmp_path / name)
    rows, said = listed(tmp_path)
    assert names(rows) == ["1000", "1001", "NCT"] and any("numbers" in line for line in said)


def test_slides_that_are_not_read_and_links_to_nothing_are_named_a_line_each(tmp_path: Path) -> None:
    slide(tmp_path / "a.tif")
    for name in ("b.vsi", "c.isyntax", "d\npath,x.ndpis"):
        (tmp_path / name).write_bytes(b"junk")
    (tmp_path / "e.svs").symlink_to(".git/annex/objects/e.svs")
    rows, said = listed(tmp_path)
    assert names(rows) == ["a.tif"]
    assert all(any(name in line for line in said) for name in ("b.vsi", "c.isyntax", "x.ndpis"))
    assert any("e.svs" in line and "git annex get" in line for line in said)


def test_tiles_beside_a_cohort_are_a_slide(tmp_path: Path) -> None:
    slide(tmp_path / "slides" / "a.tif")
    for name in ("AC/1.png", "AC/2.png", "H/1.png"):
        picture(tmp_path / "tiles" / name)
    assert names(listed(tmp_path)[0]) == ["a.tif", "tiles"]


def test_class_folders_of_tif_tiles_are_classes(tmp_path: Path) -> None:
    for label in ("ADI", "TUM"):
        for n in range(2):
            picture(tmp_path / "NCT" / label / f"{n}.tif", 224)
    tiled = tmp_path / "NCT" / "TUM" / "tiled.tif"
    tifffile.imwrite(tiled, np.full((256, 256, 3), 190, np.uint8), tile=(128, 128), photometric="rgb")
    rows, said = listed(tmp_path)
    assert names(rows) == ["NCT"] and any("2 folders" in line and "classes" in line for line in said)


def test_many_folders_of_tiles_are_slides_and_what_is_told_decides(tmp_path: Path) -> None:
    for n in range(MOST_CLASSES + 1):
        picture(tmp_path / "tiles" / f"s{n:02}" / "1.png")
    rows, said = listed(tmp_path)
    assert len(rows) == MOST_CLASSES + 1 and "more than" in said[0] and "--folders classes" in said[0]
    assert names(listed(tmp_path, Grouping.CLASSES)[0]) == ["tiles"]
    shutil.rmtree(tmp_path / "tiles" / "s00")
    assert names(listed(tmp_path)[0]) == ["tiles"]
    assert len(listed(tmp_path, Grouping.SLIDES)[0]) == MOST_CLASSES


def test_folders_whose_tiles_bear_their_names_are_slides(tmp_path: Path) -> None:
    for name in ("TCGA-1", "TCGA-2"):
        picture(tmp_path / name / f"{name}_0_256.png")
    rows, said = listed(tmp_path)
    assert names(rows) == ["TCGA-1", "TCGA-2"] and "bear their names" in said[0]


def test_links_keep_their_names_and_linked_folders_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = slide(tmp_path / "blobs" / "0123abcd.tif").rename(tmp_path / "blobs" / "0123abcd")
    cohort = tmp_path / "cohort"
    (cohort / "snapshot").mkdir(parents=True)
    (cohort / "snapshot" / "TCGA-AA-0001.tif").symlink_to(os.path.relpath(blob, cohort / "snapshot"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    for top in (cohort, Path("cohort")):
        (row,) = listed(top)[0]
        assert (row.path, row.slide_id) == ("cohort/snapshot/TCGA-AA-0001.tif", "TCGA-AA-0001")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "all").symlink_to(cohort / "snapshot")
    assert names(listed(tmp_path / "linked")[0]) == ["TCGA-AA-0001.tif"]
    (cohort / "snapshot" / "up").symlink_to(cohort)
    rows, said = listed(cohort)
    assert len(rows) == 1 and any("a link back" in line for line in said)


def test_what_cannot_be_looked_at_is_said(tmp_path: Path) -> None:
    slide(tmp_path / "a.tif")
    latin = os.fsencode(tmp_path) + b"/caf\xe9.tif"
    shutil.copy(tmp_path / "a.tif", latin)
    (tmp_path / "gone.tif").symlink_to(tmp_path / "nowhere.tif")
    os.mkfifo(tmp_path / "pipe.tif")
    picture(tmp_path / "x.gif")
    rows, said = listed(tmp_path)
    assert names(rows) == ["a.tif"]
    assert any("caf" in line and "not UTF-8" in line for line in said)
    assert all(any(name in line for line in said) for name in ("gone.tif", "pipe.tif")) and any(
        ".gif 1" in line for line in said
    )
    scan(tmp_path).encode()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_an_unreadable_folder_is_said(tmp_path: Path) -> None:
    slide(tmp_path / "a.tif")
    (tmp_path / "closed").mkdir(mode=0)
    assert any("closed" in line and "permission" in line for line in listed(tmp_path)[1])


def test_ids_of_other_scripts_and_of_alike_names_never_collide(tmp_path: Path) -> None:
    for name in ("切片.tif", "組織.tif", "a b.tif", "a_b.tif", "c.ome.tif", "d.ome.tiff"):
        slide(tmp_path / name)
    rows, said = listed(tmp_path)
    ids = [row.slide_id for row in rows]
    assert len(set(ids)) == 6 and {"c", "d"} <= set(ids)
    assert sum("is called" in line for line in said) == 2


def test_an_ome_suffix_is_one_suffix() -> None:
    assert [default_id(f"x/a.{s}") for s in ("ome.tif", "ome.tiff", "OME.TIFF", "tif")] == ["a"] * 4
    assert default_id("a.home.tif") == "a.home"


def test_a_slide_that_makes_a_library_raise_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    slide(tmp_path / "cohort" / "a.tif")
    (damaged, _) = write_series(tmp_path / "cohort", "b", ".dcm", seed=0)[:2]
    # The series' UID says that it is of a type that there is not; OpenSlide still recognises the file.
    tag = b"\x20\x00\x0e\x00UI"
    content = damaged.read_bytes()
    assert content.count(tag) == 1
    damaged.write_bytes(content.replace(tag, tag[:-1] + b"\x01"))
    rows, said = listed(tmp_path / "cohort")
    assert "a.tif" in names(rows) and damaged.name not in names(rows)
    assert any(damaged.name in line and "reports/errors/scan.txt" in line for line in said)
    told = (tmp_path / "reports" / "errors" / "scan.txt").read_text()
    assert damaged.name in told and "Traceback" in told
    damaged.unlink()
    listed(tmp_path / "cohort")
    assert not (tmp_path / "reports" / "errors" / "scan.txt").exists()


def test_a_folder_whose_own_path_is_no_text_is_refused(tmp_path: Path) -> None:
    latin = tmp_path / os.fsdecode(b"caf\xe9")
    slide(latin / "a.tif")
    with pytest.raises(TableError, match="not UTF-8"):
        scan(latin)


def test_what_a_folder_of_slides_may_lose_is_told_to_who_embeds_it(tmp_path: Path) -> None:
    slide(tmp_path / "a.tif")
    make_slide(tmp_path / "small.tif", tissue_picture(300, 300), None)
    (tmp_path / "gone.svs").symlink_to("nowhere.svs")
    (tmp_path / "circle").symlink_to("circle")
    shutil.copy(tmp_path / "a.tif", os.fsencode(tmp_path) + b"/caf\xe9.tif")
    found, left_out = slides_below(tmp_path)
    why = {path.name: error.what for path, error in left_out}
    assert [path.name for path in found] == ["a.tif"]
    assert why.keys() == {"small.tif", "gone.svs", "circle", r"caf\udce9.tif"}
    assert "without a scale" in why["small.tif"] and "link" in why["gone.svs"] and "UTF-8" in why[r"caf\udce9.tif"]
    assert any("small.tif" in line and "taken for tiles" in line for line in listed(tmp_path)[1])


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="nothing here"):
        scan(tmp_path)
