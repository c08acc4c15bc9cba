"""A student that says what it was made of, with its card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made.exported import export
from made.items import student_manifest

from pipeline.params.student import StudentParams
from pipeline.student.card import model_card

WIDTH, TILE_PX = 24, 224


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of UNI, by tiles of 224 px at 0.5 um/px; random weights, of an architecture that each tool's timm knows."""
    folder = tmp_path_factory.mktemp("export") / "student"
    export(folder, WIDTH, 3, "mobilenetv3_small_050")
    config = json.loads((folder / "config.json").read_text())
    config["histill"] = {"teacher": "uni", "tile_px": TILE_PX, "target_mpp": 0.5}
    (folder / "config.json").write_text(json.dumps(config))
    run = student_manifest(loss={"loss": 1.0}, student=StudentParams().model_dump(mode="json"))
    (folder / "README.md").write_text(model_card(run.summary))
    return folder
