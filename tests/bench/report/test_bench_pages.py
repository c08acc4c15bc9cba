"""The program that times a large report builds just what the report builds."""

from __future__ import annotations

from pathlib import Path

from bench.report.pages import measure, repeated
from pipeline.base.store import Store
from pipeline.params.report import ReportParams
from pipeline.report.page import Manifests


def test_a_run_is_repeated_to_so_many_slides_all_of_one_set(manifests: Manifests):
    many = repeated(manifests, 12)
    ids = [item.id for item in many["tiles"].items]
    assert len(set(ids)) == 12 and set(ids) == {item.id for item in many["slides"].items}
    held = {item.id for item in many["tiles"].items if item.split == "test"}
    assert {item.id for item in many["evaluate"].items} == held and len(held) == 4
    assert many["benchmark"] == manifests["benchmark"]


def test_its_sizes_are_those_of_the_files(manifests: Manifests, store: Store, tmp_path: Path):
    found = measure(manifests, ReportParams(), store, 12, tmp_path / "out")
    side = list((tmp_path / "out" / "slides").iterdir())
    # The store has no picture of the fifth slide, of which there are two.
    assert found["slides"] == 12 and found["side_files"] == len(side) == 2 * 10
    assert found["side_bytes"] == sum(path.stat().st_size for path in side)
    assert found["report_bytes"] == (tmp_path / "out" / "report.html").stat().st_size
    assert found["seconds"] > 0
