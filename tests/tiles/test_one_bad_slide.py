"""Whatever is wrong with one slide, its mask or its tiling, the others are tiled; what may pass is no result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from made.slides import make_slide, tissue_picture

from pipeline.base.errors import SlideUnavailable
from pipeline.base.items import SlidesManifest, TilesManifest
from pipeline.base.store import Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.read.reader import SlideReader
from pipeline.slides.sources import Source, sources
from pipeline.tiles.pixels import encode_jpeg
from pipeline.tiles.stage import make_tiles
from pipeline.tiles.whole_slide import write_slide_tiles

PARAMS = TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001))
ONE = ClusterParams(workers=1)
FAILING_DISK = Path("/proc/self/mem")
"""Its first byte is an input/output error for everybody."""


class Lab:
    """A good slide, others that are not, and a store."""

    def __init__(self, folder: Path, slide: Path) -> None:
        self.folder, self.store, self.slide = folder, Store(folder / "store"), slide
        shutil.copy(slide, folder / "good.tif")
        self.lines = ["path,slide_id,mask,coords,split", "good.tif,good,,,train"]

    def add(self, name: str, path: str, mask: str = "", coords: str = "") -> None:
        self.lines.append(f"{path},{name},{mask},{coords},train")

    def slides(self) -> SlidesManifest:
        (self.folder / "slides.csv").write_text("\n".join(self.lines) + "\n")
        return catalogue(SlidesParams(table=str(self.folder / "slides.csv")), self.store, ONE)

    def sources(self) -> dict[str, Source]:
        return sources(self.folder / "slides.csv", self.store, SlidesParams())

    def tiles(self, slides: SlidesManifest) -> TilesManifest:
        return make_tiles(slides, self.sources(), PARAMS, self.store, ONE)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_slide(tmp_path_factory.mktemp("slide") / "s.tif", tissue_picture(600, 500, 1))


@pytest.fixture
def lab(tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.chdir(tmp_path)
    return Lab(tmp_path, slide)


def tiling(path: Path, corners: object, **attributes: object) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("coords", data=corners).attrs.update(attributes)


def nested(depth: int) -> str:
    return '{"type": "GeometryCollection", "geometries": [' * depth + "]}" * depth


MASKS: dict[str, Callable[[Path], object]] = {
    "deep.geojson": lambda path: path.write_text(nested(3000)),
    "half.geojson": lambda path: path.write_text('{"type": "FeatureCollection", "features": [{"ty'),
    "odd.geojson": lambda path: path.write_text(json.dumps({"type": "Polygon", "coordinates": [[[1, None]]]})),
    "no_picture.png": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\nnothing"),
}
TILINGS: dict[str, Callable[[Path], object]] = {
    "no.h5": lambda path: path.write_bytes(b"no HDF5"),
    "words.h5": lambda path: tiling(path, np.array([[b"a", b"b"]]), patch_size_level0=64),
    "unsized.h5": lambda path: tiling(path, np.zeros((3, 2), np.int64), patch_size=64, patch_level=99),
}


def test_broken_masks_and_tilings_are_their_slides_refusals_for_good(lab: Lab) -> None:
    for i, (name, write) in enumerate({**MASKS, **TILINGS}.items()):
        write(lab.folder / name)
        make_slide(lab.folder / f"s{i}.tif", tissue_picture(200 + i, 200))
        column = "mask" if name in MASKS else "coords"
        lab.add(name.replace(".", "_"), f"s{i}.tif", **{column: name})
    made = lab.tiles(lab.slides())
    assert [item.id for item in made.items] == ["good"]
    assert {refusal.id for refusal in made.refused} == {name.replace(".", "_") for name in {**MASKS, **TILINGS}}
    assert all(refusal.fix and refusal.reason and not refusal.passing for refusal in made.refused)


def test_a_disk_that_fails_is_no_result(lab: Lab) -> None:
    (lab.folder / "failing.svs").symlink_to(FAILING_DISK)
    (lab.folder / "failing.png").symlink_to(FAILING_DISK)
    (lab.folder / "empty").mkdir()
    shutil.copy(lab.slide, lab.folder / "other.tif")
    lab.add("failing", "failing.svs")
    lab.add("masked", "other.tif", mask="failing.png")
    lab.add("unmounted", "empty")
    lab.add("missing", "nowhere/slide.svs")
    (lab.folder / "damaged.svs").write_bytes(b"II*\0 no slide")
    lab.add("damaged", "damaged.svs")
    slides = lab.slides()
    assert [item.id for item in slides.items] == ["good"]
    passing = {refusal.id: refusal.passing for refusal in slides.refused}
    assert passing == {"failing": True, "masked": True, "unmounted": True, "missing": True, "damaged": False}
    reasons = " ".join(refusal.reason for refusal in slides.refused)
    assert "Input/output error" in reasons and "failing.png cannot be read" in reasons


def test_an_image_that_cannot_be_read_is_not_counted_as_damaged(lab: Lab) -> None:
    images = lab.folder / "set"
    images.mkdir()
    for i in range(2):
        (images / f"{i}.jpg").write_bytes(encode_jpeg(tissue_picture(64, 64, i), 90))
    (images / "broken.jpg").write_bytes(b"no image")
    lab.add("set", "set")
    slides = lab.slides()
    assert lab.tiles(slides).item("set").dropped["damaged"] == 1
    lab.store.delete(next(ref for ref in lab.store.refs() if ref.item == slides.item("set").key))
    (images / "1.jpg").unlink()
    (images / "1.jpg").symlink_to(FAILING_DISK)
    made = lab.tiles(slides)
    assert [item.id for item in made.items] == ["good"]
    (refusal,) = made.refused
    assert refusal.passing and "1.jpg cannot be read: Input/output error" in refusal.reason


def test_tiles_of_a_file_that_went_away_meanwhile_are_not_damaged_ones(lab: Lab, tmp_path: Path) -> None:
    path = lab.folder / "good.tif"
    data = bytearray(path.read_bytes())
    # In the middle of the file lies one of the slide's compressed tiles.
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    path.write_bytes(data)
    out = tmp_path / "out"
    for gone in (False, True):
        out.mkdir()
        with SlideReader(path) as reader:
            if gone:
                path.unlink()
                with pytest.raises(SlideUnavailable, match=r"good\.tif cannot be read: No such file"):
                    write_slide_tiles(Source("good", "file", path), out, PARAMS, reader)
            else:
                write_slide_tiles(Source("good", "file", path), out, PARAMS, reader)
        shutil.rmtree(out)
