from __future__ import annotations

import csv
import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made.cache import Cache, make_cache
from made.corpus import tiny
from safetensors.torch import load_file

from pipeline.base.arrays import ArrayWriter, MappedArray
from pipeline.base.errors import StoreFull, TrainingError
from pipeline.base.items import StudentManifest
from pipeline.base.store import Ref, Store
from pipeline.corpus.corpus import open_corpus
from pipeline.params.student import StudentParams
from pipeline.student.recipe import train_recipe
from pipeline.student.train import train_student

SHORT: dict[str, Any] = {"epochs": 1, "batch_size": 40}
"""A training of one step."""


def train(cache: Cache, root: Path, params: StudentParams) -> tuple[StudentManifest, dict[str, Any]]:
    out = root / "models" / "student"
    return train_student(cache.tiles, cache.tokens, params, cache.store, out=out, curve=root / "plots" / "training.csv")


def curve(root: Path) -> list[dict[str, str]]:
    with open(root / "plots" / "training.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_loss_falls_and_the_curve_says_so(cache: Cache, tmp_path: Path) -> None:
    manifest, metrics = train(cache, tmp_path, tiny(epochs=3, lr=1e-2))
    rows = curve(tmp_path)
    assert [int(row["step"]) for row in rows] == list(range(1, 16)) and metrics["steps"] == 15
    assert (rows[-1]["epoch"], rows[-1]["tiles_seen"]) == ("3", "120")
    start, end = (np.mean([float(row["cls"]) for row in part]) for part in (rows[:5], rows[-5:]))
    assert end < 0.7 * start
    assert manifest.summary.loss["cls"] == pytest.approx(end)
    assert all(float(row["loss"]) == pytest.approx(float(row["cls"]) + float(row["patch"]), rel=1e-5) for row in rows)


def test_a_finished_run_is_only_exported_again(cache: Cache, tmp_path: Path) -> None:
    first, trained = train(cache, tmp_path / "a", tiny(seed=1, **SHORT))
    second, again = train(cache, tmp_path / "b", tiny(seed=1, **SHORT, workers=0, checkpoint_minutes=9))
    assert (trained["cached"], again) == (False, {"cached": True})
    assert first == second
    folders = [tmp_path / at / "models" / "student" for at in "ab"]
    files = [{p.relative_to(f).as_posix(): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders]
    assert files[0] == files[1]
    assert sorted(files[0]) == [item.id for item in first.items]
    assert curve(tmp_path / "a") == curve(tmp_path / "b")


def test_patch_objective_without_patch_tokens_is_off_by_itself_and_says_so(tmp_path: Path, capfd) -> None:
    cache = make_cache(tmp_path / "cache", patch="none")
    manifest, _ = train(cache, tmp_path, tiny(**SHORT))
    assert manifest.summary.adapter is None and manifest.summary.student["objective"]["patch"] == 0
    assert "objective.patch is off" in " ".join(capfd.readouterr().err.split())
    assert [item.id for item in manifest.items] == ["README.md", "config.json", "model.onnx", "model.safetensors"]
    assert curve(tmp_path)[0]["patch"] == ""
    same, metrics = train(cache, tmp_path, tiny(**SHORT, objective={"patch": 0}))
    assert metrics["cached"] and same.recipe_key == manifest.recipe_key


def test_nothing_to_learn_without_patch_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="every objective but patch has weight 0"):
        train(make_cache(tmp_path / "cache", patch="none"), tmp_path, tiny(objective={"cls": 0}))


def test_no_objective_is_refused(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="every objective has weight 0"):
        train(cache, tmp_path, tiny(objective={"cls": 0, "patch": 0}))


def test_a_loss_that_is_not_finite_names_step_objective_and_slides(tmp_path: Path) -> None:
    cache = make_cache(tmp_path)
    folder = cache.store.path(Ref("tokens", cache.tokens.recipe_key, "key-beta"))
    old = MappedArray(folder / "scale")
    writer = ArrayWriter(folder / "scale", old.shape, old.chunk_rows, np.float16)
    writer.write(0, np.full((len(writer.rows(0)), *old.shape[1:]), np.nan, np.float16))
    with pytest.raises(TrainingError, match=r"step \d+: the patch loss is not finite; slides: .*beta"):
        train(cache, tmp_path, tiny())


@pytest.mark.parametrize("minutes", [0, 9], ids=["checkpoint", "weights"])
def test_what_finds_no_room_is_a_full_store(minutes: float, tmp_path: Path) -> None:
    cache, limits = make_cache(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    # As on a full disk: no file can be longer than a page.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(StoreFull, match="no room left"):
            train(cache, tmp_path, tiny(epochs=1, batch_size=20, checkpoint_minutes=minutes))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_batch_norm_is_measured_with_the_exported_weights(cache: Cache, tmp_path: Path) -> None:
    train(cache, tmp_path, tiny(epochs=1, batch_size=16, objective={"patch": 0}))
    weights = load_file(tmp_path / "models/student/model.safetensors")
    counted = [int(value) for name, value in weights.items() if name.endswith("num_batches_tracked")]
    # One epoch of 2 batches is all there is, and it is counted from zero after training.
    assert set(counted) == {2}


def test_frozen_batch_norm_is_measured_once_with_the_first_weights(cache: Cache, tmp_path: Path) -> None:
    found = []
    for lr in (1e-9, 1e-2):
        train(cache, tmp_path, tiny(lr=lr, freeze_batch_norm=True, **SHORT, objective={"patch": 0}))
        weights = load_file(tmp_path / "models/student/model.safetensors")
        found.append({name: value for name, value in weights.items() if "running_" in name})
    assert found[0] and all(value.abs().max() > 0 for value in found[0].values())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_tensorboard_gets_the_curves_rows_and_changes_nothing(cache: Cache, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    short = {"seed": 4, "epochs": 1, "batch_size": 20, "objective": {"patch": 0}}
    plain, _ = train(cache, tmp_path, tiny(**short))
    cache.store.delete(Ref("checkpoints", plain.recipe_key, "run"))
    log, out = tmp_path / "log", tmp_path / "models" / "student"
    settings = {"out": out, "curve": tmp_path / "plots" / "training.csv", "log": log}
    logged, _ = train_student(cache.tiles, cache.tokens, tiny(**short, log="tensorboard"), cache.store, **settings)
    assert logged == plain
    found = event_accumulator.EventAccumulator(str(log / plain.recipe_key[:12])).Reload()
    events = [(event.step, event.value) for event in found.Scalars("loss")]
    assert events == [(int(row["step"]), pytest.approx(float(row["loss"]))) for row in curve(tmp_path)]


def test_the_recipe_holds_what_changes_the_weights(cache: Cache) -> None:
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)

    def recipe(world: int = 1, **changed: Any) -> dict[str, Any]:
        return train_recipe(cache.tokens, corpus, tiny(**changed), 32, world)

    assert recipe(workers=0) == recipe(checkpoint_minutes=9) == recipe()
    fraction, processes = recipe(train_fraction=0.3), recipe(world=2)
    assert "kept_rows" in fraction and "kept_rows" not in recipe() and processes["world"] == 2
    assert recipe(world=2, freeze_batch_norm=True) == recipe(freeze_batch_norm=True)
    assert recipe(world=3, freeze_batch_norm=True, batch_size=42) != recipe(freeze_batch_norm=True, batch_size=42)
    if not torch.cuda.is_available():
        assert recipe(compile="off") == recipe()
    for change in ({"seed": 1}, {"lr": 1e-3}, {"buffer_rows": 8}, {"objective": {"cls": 2}}, {"input_px": 64}):
        assert recipe(**change) != recipe()


@pytest.mark.parametrize(("tile_px", "input_px"), [(128, 128), (224, 224), (250, 256), (20, 32)])
def test_input_side_is_the_tiles_to_the_next_multiple_of_32(cache: Cache, tile_px: int, input_px: int) -> None:
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)
    assert train_recipe(cache.tokens, corpus, tiny(), tile_px)["input_px"] == input_px


def test_a_student_is_trained_from_tokens_that_one_may_only_read(tmp_path: Path) -> None:
    theirs = make_cache(tmp_path, patch="none")
    base = theirs.store.root
    if os.geteuid() or subprocess.run(["mount", "--bind", base, base], capture_output=True, check=False).returncode:
        pytest.skip("a read-only bind mount needs root")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", base], check=True)
        mine = theirs._replace(store=Store(tmp_path / "own", [base]))
        manifest, _ = train(mine, tmp_path, tiny(**SHORT, objective={"patch": 0}))
    finally:
        subprocess.run(["umount", base], check=True)
    made = [str(ref) for ref in mine.store.own_refs() if ref.kind != "statistics"]
    assert made == list(manifest.uses)
