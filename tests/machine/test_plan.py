"""`histill plan`: what it says of tiles and bytes is what the stages make, and it is held against what they took."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from made.command import histill
from made.slides import make_slide, tissue_picture

from pipeline.base.arrays import CHUNK_NBYTES, BytesWriter
from pipeline.base.store import Store
from pipeline.embed.job import Outcome as JobOutcome
from pipeline.embed.record import keep
from pipeline.machine.plan.after import compare, read
from pipeline.machine.plan.looks import Look, Looks, look_at, spread
from pipeline.machine.plan.planned import _Found
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.params.whole import WholeParams
from pipeline.slides.catalogue import FEW, threads_of_few
from pipeline.slides.table import read_table

WIDTH, CELLS, VIEWS, ALSO_WIDTH = 24, 16, 3, 16
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": 1, "num_heads": 2}
TILES = {"tile_px": 64, "target_mpp": 0.5, "min_sharpness": 0, "tissue": {"mask_mpp": 4, "min_area_mm2": 0.001}}
PARAMS = {
    "tiles": TILES,
    "tokens": {
        "teacher": "vit_tiny_patch16_224",
        "model_kwargs": VIT,
        "batch_size": 4,
        "views": VIEWS,
        "also": [
            {"teacher": "vit_small_patch16_224", "model_kwargs": {**VIT, "embed_dim": ALSO_WIDTH}, "patch": "none"}
        ],
    },
    "student": {"model": "test_efficientnet", "input_px": 64, "epochs": 2, "batch_size": 8, "adapter": "pool"},
    "cluster": {"workers": 1},
}
SIDES = {"a": 512, "b": 1024, "c": 768}


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A project with a plan, before any stage has run."""
    root = tmp_path_factory.mktemp("planned")
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    for name, side in SIDES.items():
        make_slide(root / f"{name}.tif", tissue_picture(side, side))
    make_slide(root / "without.tif", tissue_picture(256, 256), mpp=None)
    rows = ["path,split", *(f"{name}.tif,{'test' if name == 'c' else 'train'}" for name in SIDES), "without.tif,train"]
    (root / "slides.csv").write_text("\n".join(rows) + "\n")
    done = histill(root, "plan", "--seconds", "1", "--json", HISTILL_STORE=str(root / "store"))
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout)


def stages(plan: dict) -> dict[str, dict]:
    return {stage["stage"]: stage for stage in plan["stages"]}


def test_tiles_and_bytes_are_those_of_the_stages(planned: tuple[Path, dict]) -> None:
    root, plan = planned
    assert plan["looked_at"] == plan["slides"] == 3 and plan["refused"] == {"without": "no mpp in its metadata"}
    for stage in ("slides", "tiles"):
        done = histill(root, stage, HISTILL_STORE=str(root / "store"))
        assert done.returncode == 0, done.stderr
    made = {item["id"]: item["n"] for item in json.loads((root / "artifacts" / "tiles.json").read_text())["items"]}
    assert plan["tiles"] == sum(made.values()) == stages(plan)["tiles"]["tiles"]
    assert plan["train_tiles"] == made["a"] + made["b"]
    one = 2 * WIDTH + CELLS * WIDTH + 2 * CELLS + 2 * ALSO_WIDTH
    assert stages(plan)["tokens"]["nbytes"] == (VIEWS * plan["train_tiles"] + made["c"]) * one
    basis = stages(plan)["tokens"]["basis"]
    assert "vit_tiny_patch16_224" in basis and "vit_small_patch16_224" in basis
    assert stages(plan)["student"]["tiles"] == 2 * plan["train_tiles"]
    assert all(stage["seconds"] is None or stage["seconds"] > 0 for stage in plan["stages"])
    # Afterwards, of the stages that have run since.
    after = histill(root, "plan", "--after", "--json")
    outcomes = {outcome["stage"]: outcome for outcome in json.loads(after.stdout)}
    took = json.loads((root / "metrics" / "tiles.json").read_text())["seconds"]
    assert outcomes["tiles"]["made_tiles"] == outcomes["tiles"]["planned_tiles"] == plan["tiles"]
    assert outcomes["tiles"]["taken_s"] == took
    assert outcomes["tiles"]["ratio_s"] == pytest.approx(took / stages(plan)["tiles"]["seconds"])
    assert outcomes["student"]["taken_s"] is None and outcomes["student"]["why"] == "has not run since"
    shown = histill(root, "plan", "--after").stdout
    assert f"{plan['tiles']} -> {plan['tiles']}" in shown


def test_what_time_does_not_suffice_for_counts_as_the_mean(planned: tuple[Path, dict]) -> None:
    root, _ = planned
    rows = read_table(root / "slides.csv").rows
    tiles = TilesParams.model_validate(TILES)
    looks = look_at(rows, root / "slides.csv", Store(root / "other"), SlidesParams(), tiles, 0)
    assert len(looks.slides) == 1 and looks.unread == 3 and len(looks.read) == 1
    both = look_at(rows[:2], root / "slides.csv", Store(root / "other"), SlidesParams(), tiles, 100)
    share = sum(look.kept for look in both.slides) / sum(look.grid for look in both.slides)
    assert [look.grid for look in both.slides] == [64, 256] and both.tissue == share
    both.slides[1].kept = None
    assert both.tiles(both.slides[1], None) == 256 * both.slides[0].kept / 64 and both.tiles(both.slides[1], 5) == 5


def test_a_tile_is_the_mean_over_tiles_of_the_whole_slide() -> None:
    looks = Looks([Look(None, 9, 1, 2.0, 100.0), Look(None, 9, 3, 6.0, 500.0), Look(None, 9)])
    assert (looks.tile_s, len(looks.read)) == (5.0, 2)
    row_N = spread(9_600)
    assert len(row_N) == 192 and row_N[0] == 0 and row_N[-1] == 9_599 and np.diff(row_N).max() < 9_600 / 12
    assert spread(50).tolist() == list(range(50)) and len(spread(193)) <= 193


def test_bytes_are_those_that_a_writer_keeps(tmp_path: Path) -> None:
    sizes = {"small": 1000, "large": CHUNK_NBYTES + 1}
    for name, nbytes in sizes.items():
        writer = BytesWriter(tmp_path / name)
        writer.append(bytes(nbytes))
        writer.close()
    kept = {name: sum(file.stat().st_size for file in (tmp_path / name / "c").iterdir()) for name in sizes}
    assert kept == {"small": 1000, "large": 2 * CHUNK_NBYTES}
    looks = Looks([Look(None, 9, 1, 1.0, sizes["small"]), Look(None, 9, 1, 1.0, sizes["large"])], unread=2)
    assert looks.jpeg_nbytes(None) == 2 * sum(kept.values())
    # One that was not read has as many tiles as its grid and the others' tissue say, of the others' mean.
    looks = Looks([Look(None, 10, 5, 1.0, 100.0), Look(None, 20)])
    assert looks.jpeg_nbytes(None) == 5 * 100 + 10 * 100 and looks.jpeg_nbytes(3) == 600


def test_embedding_is_held_against_the_plan_by_its_tiles(
    planned: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, plan = planned
    monkeypatch.chdir(root)
    said = stages(plan)["embed"]
    for share in (1, 2):
        keep(JobOutcome(made=1, tiles=plan["tiles"] // share, nbytes=77, seconds=3 * said["seconds"] / share))
        (found,) = (one for one in compare(read()) if one.stage == "embed")
        assert (found.planned_tiles, found.made_tiles) == (plan["tiles"], plan["tiles"] // share)
        assert (found.planned_nbytes, found.made_nbytes) == (said["nbytes"], 77)
        assert found.ratio_s == pytest.approx(3 * plan["tiles"] / share / (plan["tiles"] // share))
        assert ("a tile's" in found.why) == (share == 2)


def test_few_slides_wait_for_no_workers() -> None:
    params = WholeParams.model_validate(PARAMS)
    few, many = (
        _Found(Looks([Look(row=None, grid=1) for _ in range(n)]), params, tiles=n, train=n) for n in (FEW, FEW + 1)
    )
    assert few.headers(0.01, 5.0, 2) == pytest.approx(FEW * 0.01 / threads_of_few())
    assert many.headers(0.01, 5.0, 2) == pytest.approx(5 + (FEW + 1) * 0.01 / 2)


def test_without_a_plan_there_is_nothing_to_hold_a_run_against(tmp_path: Path) -> None:
    done = histill(tmp_path, "plan", "--after")
    assert done.returncode == 1 and "histill plan" in done.stderr
