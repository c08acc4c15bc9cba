"""A slide whose disk was not there is no result: `dvc repro` fails, and what its error says to do then works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made.slides import make_slide, tissue_picture
from project import Project

from pipeline.base.errors import Unfinished
from pipeline.base.items import TilesManifest
from pipeline.base.manifest import Refusal
from stages.command import require_finished

PARAMS = {"tiles": {"tile_px": 64, "tissue": {"mask_mpp": 4, "min_area_mm2": 0.001}}, "cluster": {"workers": 1}}


def ids(project: Project, stage: str) -> list[str]:
    return [item["id"] for item in json.loads(project.artifact(stage))["items"]]


def test_a_disk_that_was_away_for_one_run_costs_that_run_alone(tmp_path: Path) -> None:
    for seed, name in enumerate(("disk_a/one.tif", "disk_b/two.tif")):
        (tmp_path / name).parent.mkdir()
        make_slide(tmp_path / name, tissue_picture(400, 300, seed))
    rows = f"path,split\n{tmp_path}/disk_a/one.tif,train\n{tmp_path}/disk_b/two.tif,test\n"
    (tmp_path / "clone").mkdir()
    project = Project(tmp_path / "clone", PARAMS, rows)
    project.dvc("repro", "slides")
    (tmp_path / "disk_b").rename(tmp_path / "away")
    told = project.dvc("repro", "tiles", ok=False)
    assert "failed to reproduce 'tiles'" in told and "Traceback" not in told
    assert "tiles: 1 could not be looked at this time: two; all else is done and kept" in " ".join(told.split())
    assert ids(project, "tiles") == ["one"]
    made = project.written("tiles")
    (tmp_path / "away").rename(tmp_path / "disk_b")
    project.dvc("repro", "tiles")
    assert ids(project, "tiles") == ["one", "two"] and made.items() <= project.written("tiles").items()


def test_only_what_may_pass_and_is_this_stages_own_fails_it() -> None:
    kept, passing = Refusal(id="a", reason="no tissue"), Refusal(id="b", reason="file not found", passing=True)
    require_finished(TilesManifest(refused=(kept,)), ())
    require_finished(TilesManifest(refused=(kept, passing)), (passing,))
    many = tuple(Refusal(id=f"s{i}", reason="gone", passing=True) for i in range(12))
    with pytest.raises(Unfinished, match=r"tiles: 13 could not .*: b, s0, .* and 5 more; .*\n.*dvc repro tiles"):
        require_finished(TilesManifest(refused=(kept, passing, *many)), ())
