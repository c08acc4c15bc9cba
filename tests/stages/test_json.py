"""`--json`: every command that says something to people says it to programs too, as one JSON value on stdout."""

from __future__ import annotations

import grp
import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from imports import ROOT
from made.checkout import project, put
from made.command import histill
from made.embedded import SIZE, write_embedded
from made.exported import export
from made.feature_jobs import trident
from made.items import student_manifest
from made.slides import make_slide, tissue_picture
from PIL import Image
from test_command_line import commands
from typer.main import get_command

from pipeline.base.store import Store
from pipeline.params import STAGES
from pipeline.params.student import StudentParams
from pipeline.student.card import model_card
from stages.cli.app import cli

GROUP = grp.getgrgid(os.getgid()).gr_name
CASES = {
    "summary": ("", {"report", "student", "figures"}),
    "teachers": ("", {"uni"}),
    "store ls": ("", None),
    "store du": ("", {"store", "recipes"}),
    "store verify": ("", {"checked", "corrupt"}),
    "store why": ("x", None),
    "store status": ("--all", {"bucket", "recipes"}),
    "store push": ("--all", {"items", "nbytes", "absent", "failed"}),
    "store pull": ("--all", {"items", "nbytes", "absent", "failed"}),
    "store prune": ("", {"items", "unfinished", "left", "deleted", "swept"}),
    "store init": (f"--group {GROUP}", {"store", "group", "files_of_others"}),
    "export adapter": ("--for clam --student student --out adapters", {"file", "written", "usage"}),
    "export hub": ("hub --student student", {"written", "license", "base_model", "figures"}),
    "export coords": ("--format trident --out tilings", {"written", "left_out", "commands"}),
    "export tissue": ("one.tif --out tissue", {"written", "left_out"}),
    "import features": (
        "job --teacher uni --table slides.csv --out taken.csv",
        {"table", "slides", "left_out", "remarks"},
    ),
    "heatmap": ("one.tif --features 0-one.parquet", {"by", "written"}),
    "similar": ("one.tif 10,10 --features 0-one.parquet -n 3", {"tiles", "written"}),
    "embed": ("tile.png --student student --out tile.h5", {"out", "n", "left_out"}),
}
"""What is typed after the command, and what its JSON has."""
ELSEWHERE = {
    "doctor": "machine/test_doctor.py",
    "plan": "machine/test_plan.py",
    "cluster check": "cluster/test_slurm.py",
    "report": "report/across/test_compare.py",
    "study": "stages/test_sharing.py",
}
"""Run with --json by the tests of their own set-up."""
OTHERWISE = {"scan", "import coords", "cluster spec", *(set(STAGES) - {"report"})}
"""What they print is a table as CSV, or YAML; a stage writes its manifest."""
ALL = {" ".join(words): command for words, command in commands(get_command(cli))}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with items in its store, a slide with its embeddings, a tile and a student."""
    root = project(tmp_path_factory.mktemp("json"))
    for item in "acx":
        put(Store(root / ".store"), item)
    tiles = {"tile_px": 96, "min_sharpness": 0, "tissue": {"mask_mpp": 4, "min_area_mm2": 0.001}}
    params = {"tiles": tiles, "cluster": {"workers": 1}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    slide = make_slide(root / "one.tif", tissue_picture(*SIZE), kind="plain")
    write_embedded(root, "parquet", slide, SIZE)
    Image.fromarray(tissue_picture(96, 96)).save(root / "tile.png")
    export(root / "student", 24, 0)
    run = student_manifest(loss={"loss": 1.0}, student=StudentParams().model_dump(mode="json"))
    (root / "student" / "README.md").write_text(model_card(run.summary))
    corners = np.array([[0, 0], [96, 0]])
    trident(root / "job", "one", np.zeros((2, 1024), np.float32), corners, 96)
    (root / "slides.csv").write_text("path,split\none.tif,train\n")
    for stage in ("slides", "tiles"):
        assert histill(root, stage).returncode == 0
    return root


@pytest.mark.parametrize("command", CASES)
def test_a_program_reads_one_value(command: str, here: Path) -> None:
    words, keys = CASES[command]
    done = histill(here, *command.split(), *shlex.split(words), "--json", HISTILL_STORE_REMOTE=f"file://{here}/bucket")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told and (keys is None or keys <= set(told))


def test_what_nobody_names_stays_unless_a_program_says_yes(tmp_path: Path) -> None:
    root = project(tmp_path)
    store = Store(root / ".store")
    (_, ref), nbytes = (put(store, item) for item in "ax"), 1
    for words, gone in (([], 0), (["--yes"], 1)):
        told = json.loads(histill(root, "store", "prune", "--json", *words).stdout)
        assert told["items"] == [{"item": str(ref), "nbytes": nbytes}] and told["deleted"] == gone
        assert store.has(ref) == (not gone)


def test_every_command_has_it_and_is_tested_or_says_why_not() -> None:
    able = {name for name, command in ALL.items() if any("--json" in param.opts for param in command.params)}
    assert able == set(ALL) - OTHERWISE
    assert able == {*CASES, *ELSEWHERE}
    untested = [path for path in ELSEWHERE.values() if '"--json"' not in (ROOT / "tests" / path).read_text()]
    assert not untested
