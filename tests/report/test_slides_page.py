"""The page of all slides: small, safe, and beside its pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from made.items import tiles_item
from PIL import Image

from pipeline.base.store import Ref, Store
from pipeline.params.report import ReportParams
from pipeline.report.across.pareto import Pareto
from pipeline.report.page import Manifests, build_report


@pytest.fixture
def folder(manifests: Manifests, store: Store, compared: Pareto, tmp_path: Path) -> Path:
    (tmp_path / "reports" / "slides").mkdir(parents=True)
    (tmp_path / "reports" / "slides" / "of-an-older-run.jpg").write_bytes(b"x")
    build_report(manifests, ReportParams(), store, compared, tmp_path / "reports" / "report.html")
    return tmp_path / "reports"


def rows(text: str) -> list[dict]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(data)


def test_every_slide_is_in_its_data_and_its_pictures_beside_it(folder: Path) -> None:
    found = rows((folder / "slides.html").read_text())
    assert [row["id"] for row in found] == ["alpha", "beta", "<script>alert(1)</script>", "gamma", "delta"]
    for row in found[:-1]:
        for name in (row["overlay"], row["mosaic"]):
            with Image.open(folder / "slides" / name) as image:
                assert image.format == "JPEG"
    assert found[-1]["overlay"] is None
    assert {path.name for path in (folder / "slides").iterdir()} == {
        name for row in found for name in (row["overlay"], row["mosaic"]) if name
    }


def test_it_holds_no_picture_and_loads_nothing_from_elsewhere(folder: Path) -> None:
    text = (folder / "slides.html").read_text()
    assert "data:image" not in text and not re.search(r"https?://|@import", text)
    assert "innerHTML" not in text and "<script>alert" not in text


def test_a_thousand_slides_are_a_small_page(
    manifests: Manifests, store: Store, compared: Pareto, tmp_path: Path
) -> None:
    dropped = {"glass": 900, "pen": 2, "blank": 0, "edge": 40, "limit": 0, "blurred": 7, "damaged": 1}
    many = tuple(tiles_item(f"slide-{n}", 90, key="none", tissue_mm2=1.5, dropped=dropped) for n in range(1000))
    manifests["tiles"] = manifests["tiles"].model_copy(update={"items": many})
    build_report(manifests, ReportParams(max_slides=3), store, compared, tmp_path / "report.html")
    text = (tmp_path / "slides.html").read_text()
    assert len(text) < 500_000
    assert rows(text)[7]["lost"] == pytest.approx(0.1) and "blank" not in rows(text)[7]["dropped"]


def test_a_slide_that_is_called_as_the_tiles_of_another_keeps_its_own_picture(
    manifests: Manifests, store: Store, compared: Pareto, tmp_path: Path
) -> None:
    tiles = manifests["tiles"]
    named = [item.model_copy(update={"id": i}) for item, i in zip(tiles.items, ("case", "case-tiles"), strict=False)]
    manifests["tiles"] = tiles.model_copy(update={"items": tuple(named)})
    build_report(manifests, ReportParams(), store, compared, tmp_path / "reports" / "report.html")
    found = rows((tmp_path / "reports" / "slides.html").read_text())
    names = [row[key] for row in found for key in ("overlay", "mosaic")]
    assert len(set(names)) == 4
    for row, item in zip(found, named, strict=True):
        for key in ("overlay", "mosaic"):
            stored = store.path(Ref("tiles", tiles.recipe_key, item.key)) / f"{key}.jpg"
            assert (tmp_path / "reports" / "slides" / row[key]).read_bytes() == stored.read_bytes()


def test_the_same_run_writes_the_same_bytes(
    folder: Path, manifests: Manifests, store: Store, compared: Pareto, tmp_path: Path
) -> None:
    build_report(manifests, ReportParams(), store, compared, tmp_path / "again" / "report.html")
    for path in [folder / "slides.html", *(folder / "slides").iterdir()]:
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(folder)).read_bytes()


def test_pictures_that_are_there_are_not_made_again_and_damaged_ones_and_those_of_other_tiles_are(
    folder: Path, manifests: Manifests, store: Store, compared: Pareto, capsys: pytest.CaptureFixture[str]
) -> None:
    first = rows((folder / "slides.html").read_text())[0]
    written = {path: path.stat().st_ino for path in (folder / "slides").iterdir()}
    content = {path: path.read_bytes() for path in written}
    alpha, *others = manifests["tiles"].items
    stored = store.path(Ref.of(manifests["tiles"], alpha))
    files = {name: (stored / name).read_bytes() for name in ("thumb.jpg", "overlay.jpg", "mosaic.jpg")}
    for name in ("overlay.jpg", "mosaic.jpg"):
        (stored / name).unlink()
    build_report(manifests, ReportParams(), store, compared, folder / "report.html")
    assert rows((folder / "slides.html").read_text())[0] == first
    assert {path: path.stat().st_ino for path in (folder / "slides").iterdir()} == written

    damaged = folder / "slides" / first["overlay"]
    damaged.write_bytes(damaged.read_bytes()[:40])
    (stored / "thumb.jpg").write_bytes(b"no picture")
    build_report(manifests, ReportParams(), store, compared, folder / "report.html")
    without = rows((folder / "slides.html").read_text())[0]
    assert without["overlay"] is None and without["mosaic"] == first["mosaic"]
    assert "damaged: tiles/" in capsys.readouterr().err
    for name, data in files.items():
        (stored / name).write_bytes(data)
    build_report(manifests, ReportParams(), store, compared, folder / "report.html")
    assert rows((folder / "slides.html").read_text())[0] == first
    assert {path: path.read_bytes() for path in written} == content

    for name in ("overlay.jpg", "mosaic.jpg"):
        (stored / name).unlink()
    again = (alpha.model_copy(update={"digest": "another"}), *others)
    manifests["tiles"] = manifests["tiles"].model_copy(update={"items": again})
    build_report(manifests, ReportParams(), store, compared, folder / "report.html")
    # The store has a thumbnail of it left.
    after = rows((folder / "slides.html").read_text())[0]
    assert after["overlay"] not in (None, first["overlay"]) and after["mosaic"] is None
    kept = {path.name for path in (folder / "slides").iterdir()}
    assert after["overlay"] in kept and not kept & {first["overlay"], first["mosaic"]}
