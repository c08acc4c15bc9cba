"""What a lab's size is measured by: slides that the stages take, and processes whose seconds are their own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from made.busy import busy, end_with

from bench import lab
from bench.apart import Apart, ServerLost, Told
from bench.scale import Row
from pipeline.base.store import Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.scan import scan
from pipeline.slides.sources import sources
from pipeline.tiles.stage import make_tiles


def test_growth_is_told_from_the_two_sizes() -> None:
    linear = Row("x", (100, 400), (Told(9, 1.0, 50), Told(9, 4.0, 60)))
    assert (linear.ms_a_slide, linear.law) == (pytest.approx(10), pytest.approx(1))
    assert Row("x", (100, 400), (Told(9, 1.0, 50), Told(9, 16.0, 60))).law == pytest.approx(2)
    assert Row("x", (100, 400), (Told(9, 0.0, 50), Told(9, 0.0, 60))).law == 0
    assert linear.figures()["peak_mb"] == 60


def test_a_process_apart_tells_its_own_seconds_and_what_went_wrong(tmp_path: Path) -> None:
    apart = Apart(("made.busy",))
    told = apart.run(busy, 0.3)
    assert told.error is None and told.cpu_s >= 0.3 and told.wall_s >= 0.3 and told.peak_mb > 1
    assert "could not convert" in str(apart.run(float, "no number").error)
    assert apart.run(busy, 0.0).cpu_s < told.cpu_s
    assert "exit code" in str(apart.run(end_with, 7).error)


def test_a_call_whose_server_is_killed_came_to_nothing_that_is_known() -> None:
    apart = Apart(("made.busy",))
    running = apart.start(busy, 60.0)
    # The server is what forked it, however the tests start a Python.
    stat = Path(f"/proc/{running.pid}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
    with pytest.raises(ServerLost):
        running.told()
    assert apart.run(busy, 0.0).error is None


def test_every_slide_of_the_lab_has_four_tiles_and_is_another(tmp_path: Path) -> None:
    lab.write_slides(tmp_path, 11)
    store, one, table = Store(tmp_path / "store"), ClusterParams(workers=1), tmp_path / "slides.csv"
    params = SlidesParams(table=str(table))
    slides = catalogue(params, store, one)
    assert [item.split for item in slides.items] == ["test", *["train"] * 9, "test"]
    assert {item.label for item in slides.items} == {"a", "b"} and len({item.key for item in slides.items}) == 11
    first = slides.model_copy(update={"items": slides.items[:2]})
    tiling = TilesParams.model_validate(lab.PARAMS["tiles"])
    tiles = make_tiles(first, sources(table, store, params), tiling, store, one)
    assert [item.n for item in tiles.items] == [4, 4] and not tiles.refused


def test_its_folders_of_images_are_slides_each(tmp_path: Path) -> None:
    lab.make_picture_folders(tmp_path / "folders", 50)
    assert len([line for line in scan(tmp_path / "folders").splitlines() if "case-" in line and line[0] != "#"]) == 50
