"""Data sets through the whole comparison, on a real small run: each kind, leaks, what was trained on, bad input."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from made.run import CLASSES, SIDE_PX, TILES, Made, folder_set, masks_set, painted, whys
from PIL import Image

from pipeline.base.errors import EvaluationError
from pipeline.base.store import Ref
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.params.evaluate import DatasetParams
from pipeline.params.tokens import TokensParams
from pipeline.report.details import detail_rows
from pipeline.tiles.item.reader import TileReader


def test_slides_have_every_figure(made: Made, tmp_path: Path):
    manifest = made.evaluate(tmp_path, robustness_tiles=16)
    found, lead = manifest.summary, manifest.summary.lead
    assert -1 <= lead.patch.cosine.value <= 1 and lead.patch.cosine.n == 2 * TILES * 16
    assert lead.structure.rankme.teacher.value > 1 and lead.few_shot[4].accuracies.untrained.balanced.value > 0
    assert lead.slide_labels.n == 2 and lead.dense is None
    assert any("only 2 held-out slides" in text for text in found.cautions)
    assert set(found.robustness.changes) == {"stain", "scale", "blur", "jpeg", "dihedral"}
    assert any(text.startswith("figures of test: 2 slides are fewer than the 8") for text in found.cautions)
    assert whys(found) == {"retention of slide labels, test": "in some resamples the teacher itself gets nothing right"}
    assert found.trained_on() == [] and found.sets == {}
    assert {
        "patch_cosine",
        "cka",
        "shots_4_student",
        "slide_labels_head_transfer_student",
        "stain_agreement_student",
    } <= set(manifest.numbers())


def test_the_manifest_that_is_read_back_is_the_one_that_was_written(made: Made, tmp_path: Path):
    images = DatasetParams(name="i", kind="folder", path=str(folder_set(tmp_path / "i", {"train": 8, "test": 6})))
    masks = DatasetParams(name="m", kind="masks", path=str(masks_set(tmp_path / "m")))
    manifest = made.evaluate(tmp_path, images, masks, robustness_tiles=16)
    manifest.save(tmp_path / "evaluate.json")
    assert EvaluateManifest.load(tmp_path / "evaluate.json") == manifest


def test_no_manifest_holds_a_machines_path(made: Made, tmp_path: Path):
    for manifest in (made.tiles, made.tokens, made.student, made.evaluate(tmp_path)):
        text = manifest.model_dump_json()
        assert str(made.folder.parents[1]) not in text and str(tmp_path) not in text, manifest.stage


def test_every_accuracy_stands_beside_its_floors(made: Made, tmp_path: Path):
    images = DatasetParams(name="i", kind="folder", path=str(folder_set(tmp_path / "i", {"train": 8, "test": 6})))
    masks = DatasetParams(name="m", kind="masks", path=str(masks_set(tmp_path / "m")))
    rows = [row for row in detail_rows(made.evaluate(tmp_path, images, masks).summary) if row.section == "downstream"]
    assert {row.where for row in rows} == {"test", "i, test", "m, test"}
    assert {"slide labels, attention, teacher’s head", "mIoU, dense teacher’s head"} < {row.what for row in rows}
    assert all(name in row.cells for row in rows for name in ("teacher", "student", "untrained", "majority"))


def test_a_folder_of_class_folders(made: Made, tmp_path: Path):
    root = folder_set(tmp_path / "set", {"train": 8, "test": 6, "shift": 5})
    manifest = made.evaluate(tmp_path, DatasetParams(name="made", kind="folder", path=str(root)))
    found = manifest.summary.sets["made"].splits
    assert set(found) == {"test", "shift"} and found["shift"].probes.n == 15
    assert found["test"].probes.linear.teacher.balanced.value > 0.6
    assert found["test"].few_shot[8].episodes == 3 and found["test"].slide_labels is None
    assert manifest.numbers()["made_test_linear_student"] == found["test"].probes.linear.student.balanced.value
    assert all(made.store.has(Ref.parse(use)) for use in manifest.uses)
    assert len([use for use in manifest.uses if use.startswith(("tiles/", "tokens/"))]) == 6


def test_the_teacher_runs_once_over_a_set(made: Made, tmp_path: Path):
    root = folder_set(tmp_path / "set", {"train": 7, "test": 4})
    dataset = DatasetParams(name="once", kind="folder", path=str(root))
    first = made.evaluate(tmp_path, dataset)
    gone = made._replace(teacher=made.teacher.__class__(TokensParams(teacher="nowhere"), 512))
    again = gone.evaluate(tmp_path, dataset)
    assert again.summary.sets == first.summary.sets


def test_sets_that_cannot_be_used_cost_none_of_the_others(made: Made, tmp_path: Path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train.h5").write_bytes(b"no HDF5")
    sets = [
        DatasetParams(name="broken", kind="h5", path=str(tmp_path / "broken")),
        DatasetParams(name="good", kind="folder", path=str(folder_set(tmp_path / "good", {"train": 6, "test": 5}))),
        DatasetParams(name="away", kind="csv", path=str(tmp_path / "nowhere.csv")),
    ]
    with pytest.raises(EvaluationError, match=r"2 data sets cannot be used: .*broken: .*cannot be read.*away: is not"):
        made.evaluate(tmp_path, *sets)
    gone = made._replace(teacher=made.teacher.__class__(TokensParams(teacher="nowhere"), 512))
    assert set(gone.evaluate(tmp_path, sets[1]).summary.sets) == {"good"}


def test_a_csv_with_groups_missing_labels_and_a_broken_image(made: Made, tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    rows = []
    for i in range(60):
        name = list(CLASSES)[i % 3]
        Image.fromarray(painted(name, 5000 + i)).save(folder / f"{i}.png")
        rows.append((f"{i}.png", "" if i == 50 else name, "test" if i >= 40 else "train", f"P{i // 2}"))
    (folder / "41.png").write_bytes(b"no image")
    with open(folder / "set.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split", "group"), *rows])
    summary = made.evaluate(tmp_path, DatasetParams(name="c", kind="csv", path=str(folder / "set.csv"))).summary
    balanced = summary.sets["c"].splits["test"].probes.linear.student.balanced
    assert (balanced.n, balanced.interval.unit, balanced.interval.units) == (18, "group", 10)
    warnings = " ".join(summary.every_caution())
    assert "intervals of" not in warnings.partition("c, ")[2]
    assert "1 images have no label" in warnings and "1 images do not decode" in warnings


def test_h5_as_pcam(made: Made, tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    for split, n, seed in (("train", 24, 6000), ("test", 12, 7000)):
        images = np.stack([painted(list(CLASSES)[i % 2], seed + i) for i in range(n)])
        with h5py.File(folder / f"some_split_{split}_x.h5", "w") as file:
            file["x"] = images
        with h5py.File(folder / f"some_split_{split}_y.h5", "w") as file:
            file["y"] = (np.arange(n) % 2).reshape(n, 1, 1, 1)
    found = made.evaluate(tmp_path, DatasetParams(name="p", kind="h5", path=str(folder))).summary.sets["p"].splits
    assert found["test"].probes.classes == {"0": 6, "1": 6}


def test_images_with_masks(made: Made, tmp_path: Path):
    dataset = DatasetParams(name="g", kind="masks", path=str(masks_set(tmp_path / "set")))
    manifest = made.evaluate(tmp_path, dataset)
    split = manifest.summary.sets["g"].splits["test"]
    found, linear = split.dense, split.dense.linear
    assert split.probes is None and (found.values, found.images) == ((0, 255), 5)
    assert linear.student.miou.n == 5 * 9
    assert linear.student.miou.interval.why.startswith("5 images are fewer than the 8")
    assert linear.teacher.miou.value > linear.majority.miou.value == linear.teacher.miou.floors["majority"]
    assert 0 < linear.untrained.miou.value <= 1 and linear.retention.value > 0
    assert manifest.numbers()["g_test_dense_linear_teacher"] == linear.teacher.miou.value


def test_an_image_in_train_and_test_is_an_error(made: Made, tmp_path: Path):
    root = folder_set(tmp_path / "set", {"train": 5, "test": 4})
    shutil.copy(root / "train" / "fat" / "1.png", root / "test" / "gland" / "other.png")
    with pytest.raises(EvaluationError, match="1 images of 'test' are in 'train' too"):
        made.evaluate(tmp_path, DatasetParams(name="leak", kind="folder", path=str(root)))


def test_an_image_in_train_and_its_like_in_another_format_in_test_are_an_error(made: Made, tmp_path: Path):
    root = folder_set(tmp_path / "set", {"train": 5, "test": 4})
    with Image.open(root / "train" / "fat" / "1.png") as image:
        image.save(root / "train" / "fat" / "1.jpg", quality=80)
    with Image.open(root / "train" / "fat" / "1.jpg") as image:
        image.save(root / "test" / "gland" / "other.png")
    with pytest.raises(EvaluationError, match=r"the first: test/gland/other.png is train/fat/1.jpg"):
        made.evaluate(tmp_path, DatasetParams(name="leak", kind="folder", path=str(root)))


def test_an_image_that_is_twice_in_one_split_and_images_left_out_are_warnings(made: Made, tmp_path: Path):
    root = folder_set(tmp_path / "set", {"train": 5, "test": 4})
    shutil.copy(root / "test" / "fat" / "1.png", root / "test" / "fat" / "copy.png")
    dataset = DatasetParams(name="w", kind="folder", path=str(root))
    warnings = made.evaluate(tmp_path, dataset, max_probe_tiles=14).summary.every_caution()
    twice = "1 images are there already (such as test/fat/copy.png and test/fat/1.png), and each counts"
    assert f"w, test: {twice}" in made.evaluate(tmp_path, dataset).summary.every_caution()
    assert "w, train: 14 of its 15 images were taken, evenly spread (evaluate.max_probe_tiles)" in warnings
    assert any("do not say of which slide or patient" in text for text in warnings)


def test_a_near_copy_is_a_warning(made: Made, tmp_path: Path):
    root = folder_set(tmp_path / "set", {"train": 5, "test": 4})
    with Image.open(root / "train" / "fat" / "1.png") as image:
        Image.fromarray(np.asarray(image) ^ (np.arange(SIDE_PX) == 7).astype(np.uint8)[:, None, None]).save(
            root / "test" / "fat" / "other.png"
        )
    summary = made.evaluate(tmp_path, DatasetParams(name="near", kind="folder", path=str(root))).summary
    assert any("images are nearly the same as one in train" in warning for warning in summary.every_caution())


def test_a_set_that_the_student_was_trained_on_is_named(made: Made, tmp_path: Path):
    root = folder_set(tmp_path / "set", {"train": 5, "test": 4})
    tiles = TileReader(made.store.path(Ref("tiles", made.tiles.recipe_key, "a")))
    (root / "test" / "fat" / "seen.jpg").write_bytes(tiles.jpeg(3))
    Image.fromarray(tiles.image(6)).save(root / "test" / "fat" / "seen in another format.png")
    summary = made.evaluate(tmp_path, DatasetParams(name="seen", kind="folder", path=str(root))).summary
    assert summary.trained_on() == ["seen, test: 2 of its images are among the student's train tiles"]


def test_one_class_only_has_no_probe_and_says_why(made: Made, tmp_path: Path):
    root = folder_set(tmp_path / "set", {"train": 5, "test": 4})
    for split in ("train", "test"):
        for name in ("gland", "stroma"):
            shutil.rmtree(root / split / name)
    summary = made.evaluate(tmp_path, DatasetParams(name="one", kind="folder", path=str(root))).summary
    assert "one class only (fat)" in whys(summary)["probes, test, one"]


def test_another_teacher_is_refused(made: Made, tmp_path: Path):
    root = folder_set(tmp_path / "set", {"train": 3, "test": 3})
    params = made.teacher.params.model_copy(update={"patch": "fp16"})
    run = made._replace(teacher=made.teacher.__class__(params, 512))
    with pytest.raises(EvaluationError, match="not the one by which the cached tokens were made"):
        run.evaluate(tmp_path, DatasetParams(name="other", kind="folder", path=str(root)))
