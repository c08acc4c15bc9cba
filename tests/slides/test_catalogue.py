"""The catalogue: good slides stay, bad ones are listed with the reason, and no path of this machine is kept."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from pipeline.base.errors import SlideRefused, TableError
from pipeline.base.items import SlidesManifest
from pipeline.base.store import Store
from pipeline.demo.slides import SLIDE_FILE, demo_ref
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.scan import scan
from pipeline.slides.sources import sources


def run(folder: Path, text: str, **params: object) -> SlidesManifest:
    (folder / "slides.csv").write_text(text)
    settings = SlidesParams(table=str(folder / "slides.csv"), demo_px=512, **params)  # type: ignore[arg-type]
    return catalogue(settings, Store(folder / "store"), ClusterParams(workers=1))


@pytest.fixture
def folder(tmp_path: Path, demo_folder: Path) -> Path:
    """a.tif, its copy, a broken slide, a folder of images."""
    shutil.copy(demo_folder / SLIDE_FILE, tmp_path / "a.tif")
    shutil.copy(demo_folder / SLIDE_FILE, tmp_path / "copy.tif")
    (tmp_path / "broken.svs").write_bytes(b"II*\0nothing")
    for name in ("x/1.png", "y/2.png", "y/3.png"):
        (tmp_path / "tiles" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (len(name), ord(name[0]), ord(name[2]))).save(tmp_path / "tiles" / name)
    return tmp_path


def test_good_slides_stay_and_bad_ones_are_listed(folder: Path) -> None:
    text = (
        "path,label,patient\na.tif,tumour,P1\ncopy.tif,,\nbroken.svs,,\nnowhere.svs,,\ntiles,,\ndemo:8,,\ndemo:zero,,\n"
    )
    made = run(folder, text)
    reasons = {refusal.id: refusal.reason for refusal in made.refused}
    assert [item.id for item in made.items] == ["a", "tiles"]
    assert reasons.keys() == {"copy", "broken", "nowhere", "demo-8", "demo_zero"}
    assert reasons["copy"] == "the same slide as a" and reasons["nowhere"] == "file not found"
    assert "no such demo" in reasons["demo_zero"] and all(refusal.fix for refusal in made.refused)
    slide, tiles = made.items
    assert slide.label == "tumour" and slide.mpp == pytest.approx([0.5, 0.5])
    assert slide.levels[1] == (500, 500, 2.0) and slide.n == 1
    assert tiles.kind == "folder" and tiles.mpp is None and tiles.n == 3
    assert {slide.split, tiles.split} == {"train", "test"}
    assert made.uses == (str(demo_ref(8, 512)),)


def test_a_folder_of_slides_is_no_folder_of_tiles(folder: Path) -> None:
    for name in ("alone", "pictured", "hidden"):
        (folder / name).mkdir()
        shutil.copy(folder / "a.tif", folder / name / "s.tif")
    (folder / "hidden" / "s.tif").rename(folder / "hidden" / "s.dat")
    (folder / "pictured" / "s.tif").rename(folder / "pictured" / "s.svs")
    shutil.copy(folder / "tiles" / "x" / "1.png", folder / "pictured" / "s_thumb.png")
    shutil.copytree(folder / "tiles", folder / "with a note" / "tiles")
    (folder / "with a note" / "tiles" / "made by.dat").write_bytes(b"QuPath")
    made = run(folder, "path\nalone\npictured\nhidden\nwith a note\n")
    assert [item.id for item in made.items] == ["with_a_note"]
    assert [refusal.id for refusal in made.refused] == ["alone", "pictured", "hidden"]
    assert all("holds slides" in refusal.reason and "histill scan" in refusal.fix for refusal in made.refused)


def test_a_folder_is_no_mask(folder: Path) -> None:
    made = run(folder, "path,mask\na.tif,tiles\ntiles,\ntiles\\x\\1.png,\n")
    assert made.refused[0].reason == "tiles is a folder" and not made.refused[0].passing
    assert "write / for" in made.refused[1].fix


def test_what_is_no_file_is_refused_and_whoever_has_no_home(folder: Path) -> None:
    os.mkfifo(folder / "pipe.tif")
    (folder / "annexed.svs").symlink_to(".git/annex/objects/x")
    made = run(folder, "path\na.tif\npipe.tif\n~nobody-at-all/b.tif\nannexed.svs\n")
    reasons = {refusal.id: refusal.reason for refusal in made.refused}
    annexed = reasons.pop("annexed")
    assert reasons == {"pipe": "a pipe, socket or device is no slide", "b": "file not found"}
    assert (
        "link to what is not here" in annexed and "git annex get" in made.refused[-1].fix and made.refused[-1].passing
    )


@pytest.mark.parametrize(
    "note", ["version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "/annex/objects/SHA256E-s1--0.svs\n"]
)
def test_gits_note_of_a_slide_is_no_damaged_slide(note: str, folder: Path) -> None:
    (folder / "noted.svs").write_text(note)
    (refusal,) = run(folder, "path\na.tif\nnoted.svs\n").refused
    assert refusal.passing and "git" in refusal.reason and "git lfs pull" in refusal.fix
    assert any("noted.svs" in line and "git lfs pull" in line for line in scan(folder).splitlines())


def test_a_name_in_the_other_spelling_of_its_letters_is_found(folder: Path) -> None:
    (folder / "a.tif").rename(folder / unicodedata.normalize("NFD", "D\u00fcse.tif"))
    assert [item.id for item in run(folder, "path\nD\u00fcse.tif\n").items] == ["D_se"]


def test_the_manifest_is_the_same_on_another_machine(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = "path\na.tif\ntiles\ndemo:2\n"
    run(folder, text).save(folder / "slides.json")
    other = tmp_path_factory.mktemp("other")
    shutil.copy(folder / "a.tif", other)
    shutil.copytree(folder / "tiles", other / "tiles")
    run(other, text).save(other / "slides.json")
    assert (folder / "slides.json").read_bytes() == (other / "slides.json").read_bytes()
    assert str(folder) not in (folder / "slides.json").read_text()


def test_on_error_fail_raises_the_first_refusal(folder: Path) -> None:
    with pytest.raises(SlideRefused, match="broken"):
        run(folder, "path\na.tif\nbroken.svs\nnowhere.svs\n", on_error="fail")
    with pytest.raises(SlideRefused, match="duplicate id"):
        run(folder, "path,slide_id\na.tif,one\nbroken.svs,one\n", on_error="fail")


def test_where_nothing_is_usable_each_cause_has_its_remedy(folder: Path) -> None:
    with pytest.raises(TableError, match="no slide can be used") as error:
        run(
            folder, "path\na.tif\na.tif\nbroken.svs\n".replace("a.tif", "broken.svs", 1).replace("a.tif", "gone.svs", 1)
        )
    assert "drop the row" in error.value.fix and "is its disk mounted" in error.value.fix


def test_nothing_usable_is_an_error_that_lists_the_reasons(folder: Path) -> None:
    with pytest.raises(TableError, match=r"broken: OpenSlide does not open it.*nowhere: file not found"):
        run(folder, "path\nbroken.svs\nnowhere.svs\n")


def test_many_slides_give_what_a_few_give(folder: Path) -> None:
    few = run(folder, "path,slide_id,split\na.tif,s0,train\n")
    lines = [f"{'a.tif' if i == 0 else 'broken.svs'},s{i},train" for i in range(34)]
    many = run(folder, "path,slide_id,split\n" + "\n".join(lines) + "\n")
    assert many.items == few.items and len(many.refused) == 33


def test_a_scanned_folder_is_a_table_that_can_be_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "deep").mkdir()
    shutil.copy(folder / "a.tif", folder / "deep" / "a.tif")
    text = scan(Path())
    assert "# not recognised by OpenSlide: 'broken.svs'" in text
    made = run(folder, text)
    assert {item.id for item in made.items} == {"a", "tiles"}
    assert {refusal.id for refusal in made.refused} == {"copy", "deep_a"}
    assert scan(folder) == text


def test_scanning_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="nothing here"):
        scan(tmp_path)
    with pytest.raises(TableError, match="not a folder"):
        scan(tmp_path / "nowhere")


def test_sources_know_where_pixels_are_and_make_lost_demo_slides_again(folder: Path) -> None:
    (folder / "slides.csv").write_text("path,mpp\na.tif,0.25\ntiles,\ndemo:2,\nnowhere.svs,\n")
    store, params = Store(folder / "store"), SlidesParams(demo_px=512)
    found = sources(folder / "slides.csv", store, params)
    assert {slide_id: source.kind for slide_id, source in found.items()} == {
        "a": "file",
        "tiles": "folder",
        "demo-2": "demo",
    }
    assert found["a"].path == folder / "a.tif" and found["a"].mpp == 0.25
    label_map = found["demo-2"].label_map
    assert label_map is not None and label_map.is_file() and found["demo-2"].path.is_file()
    store.delete(demo_ref(2, 512))
    assert sources(folder / "slides.csv", store, params) == found and label_map.is_file()


def test_a_temporary_experiment_finds_slides_in_the_project_it_was_made_from(folder: Path) -> None:
    (folder / ".dvc").mkdir()
    experiment = folder / ".dvc" / "tmp" / "exps" / "tmp123"
    (experiment / ".dvc").mkdir(parents=True)
    (experiment / "slides.csv").write_text("path\na.tif\ntiles\n")
    found = sources(experiment / "slides.csv", Store(folder / "store"), SlidesParams())
    assert found["a"].path == folder / "a.tif" and found["tiles"].path == folder / "tiles"
