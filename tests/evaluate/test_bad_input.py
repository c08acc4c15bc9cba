"""Bad input through the whole stage: a clear error or a clear warning, never a quiet number."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from made.run import CLASSES, TILES, Made, folder_set, make, masks_set, painted, whys
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.base.errors import EvaluationError
from pipeline.base.store import Ref
from pipeline.params.evaluate import DatasetParams
from pipeline.params.report import ReportParams
from pipeline.report.across.pareto import Pareto
from pipeline.report.page import Manifests, build_report
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg


def relabelled(made: Made, **labels: str | None) -> Made:
    """The run with other slide labels."""
    items = tuple(item.model_copy(update={"label": labels.get(item.id, item.label)}) for item in made.tokens.items)
    return made._replace(tokens=made.tokens.model_copy(update={"items": items}))


def folder_of(root: Path) -> DatasetParams:
    return DatasetParams(name="it", kind="folder", path=str(root))


def test_slides_of_one_class_only(made: Made, tmp_path: Path):
    summary = relabelled(made, b="tumour").evaluate(tmp_path).summary
    assert "one class only (tumour)" in whys(summary)["slide_labels, test"]


def test_a_label_missing_for_some_slides_so_that_the_classes_do_not_suffice(made: Made, tmp_path: Path):
    summary = relabelled(made, c=None).evaluate(tmp_path).summary
    assert "fewer than two" in whys(summary)["slide_labels, test"]


def test_a_label_missing_for_a_slide_among_others_is_a_warning(fresh: Made, tmp_path: Path):
    run = fresh.copied(tmp_path / "run")
    more = [item.model_copy(update={"id": f"{item.id}2", "label": None}) for item in run.tokens.items]
    for n, item in enumerate(more):
        more[n] = item.model_copy(update={"key": item.id})
        for kind, key in (("tiles", run.tiles.recipe_key), ("tokens", run.tokens.recipe_key)):
            source, new = (run.store.path(Ref(kind, key, name)) for name in (run.tokens.items[n].key, item.id))
            shutil.copytree(source, new)
    repaint(run, [item.id for item in more])
    tiled = [
        run.tiles.item(item.id.removesuffix("2")).model_copy(update={"id": item.id, "key": item.key}) for item in more
    ]
    run = run._replace(
        tiles=run.tiles.model_copy(update={"items": (*run.tiles.items, *tiled)}),
        tokens=run.tokens.model_copy(update={"items": (*run.tokens.items, *more)}),
    )
    summary = run.evaluate(tmp_path).summary
    warnings = [text for text in summary.every_caution() if "have no label" in text]
    assert warnings == [
        f"slide labels of test: 2 of 4 {part} slides have no label and were left out" for part in ("train", "test")
    ]
    tiles = [text for text in summary.every_caution() if "have no tile labels" in text]
    assert tiles == [f"probes of test: 2 of 4 {part} slides have no tile labels" for part in ("train", "test")]
    assert summary.lead.probes.n == 2 * TILES and summary.lead.slide_labels.n == 2


def test_slides_that_are_seen_through_some_of_their_tiles_say_so(made: Made, tmp_path: Path):
    warnings = made.evaluate(tmp_path, max_probe_tiles=30).summary.every_caution()
    for part in ("train", "test"):
        words = f"the {part} slides were seen through 32 of their {2 * TILES} tiles (evaluate.max_probe_tiles)"
        assert warnings.count(f"slide labels: {words}") == 1
    assert not any("seen through" in text for text in made.evaluate(tmp_path).summary.every_caution())


def repaint(made: Made, keys: list[str]) -> None:
    """Other images without labels into these slides, which were copies."""
    for n, key in enumerate(keys):
        folder = made.store.path(Ref("tiles", made.tiles.recipe_key, key))
        shutil.rmtree(folder)
        with made.store.write(Ref("tiles", made.tiles.recipe_key, key), made.tiles.recipe) as new:
            writer = TileWriter(new)
            for i in range(TILES):
                writer.append(encode_jpeg(painted(list(CLASSES)[i % 3], 40_000 + 100 * n + i), 95))
            writer.close(Meta(kind="file", tile_px=1))


def test_masks_of_one_class_only(made: Made, tmp_path: Path):
    root = masks_set(tmp_path / "set")
    for mask in (root / "train" / "masks").iterdir():
        Image.fromarray(np.zeros((70, 80), np.uint8)).save(mask)
    with pytest.raises(EvaluationError, match="the train masks have 1 values"):
        made.evaluate(tmp_path, DatasetParams(name="g", kind="masks", path=str(root)))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_mask_of_another_size_stops_before_the_teacher_runs(made: Made, tmp_path: Path, split: str):
    root = masks_set(tmp_path / "set", (81, 70))
    Image.fromarray(np.zeros((70, 79), np.uint8)).save(root / split / "masks" / "3.png")
    before = set(made.store.root.glob("*/*/set-*"))
    with pytest.raises(EvaluationError, match=rf"{split}/masks/3.png: the mask is 79 x 70 px, its image \d+ x 70"):
        made.evaluate(tmp_path, DatasetParams(name="g", kind="masks", path=str(root)))
    assert set(made.store.root.glob("*/*/set-*")) == before


def test_a_mask_that_is_no_image(made: Made, tmp_path: Path):
    root = masks_set(tmp_path / "set")
    (root / "test" / "masks" / "2.png").write_bytes(b"nothing")
    with pytest.raises(EvaluationError, match=r"test/masks/2.png: the mask cannot be read"):
        made.evaluate(tmp_path, DatasetParams(name="g", kind="masks", path=str(root)))


def test_an_image_with_a_mask_that_does_not_decode_is_left_out_and_counted(made: Made, tmp_path: Path):
    root = masks_set(tmp_path / "set")
    (root / "test" / "images" / "2.png").write_bytes(b"nothing")
    summary = made.evaluate(tmp_path, DatasetParams(name="g", kind="masks", path=str(root))).summary
    assert summary.sets["g"].splits["test"].dense.images == 4
    reason = "the first: test/images/2.png: not an image that decodes: of no known format"
    assert f"g, test: 1 images do not decode and were left out ({reason})" in summary.every_caution()


def paint_masks(root: Path, split: str, value: int, rows: slice) -> None:
    for path in (root / split / "masks").iterdir():
        mask_HW = np.array(Image.open(path))
        mask_HW[rows] = value
        Image.fromarray(mask_HW).save(path)


def test_mask_values_that_cannot_be_learnt_are_named(made: Made, tmp_path: Path):
    root = masks_set(tmp_path / "set")
    paint_masks(root, "train", 7, slice(0, 1))
    paint_masks(root, "test", 9, slice(30, 40))
    summary = made.evaluate(tmp_path, DatasetParams(name="g", kind="masks", path=str(root))).summary
    assert len(summary.sets["g"].splits["test"].dense.values) == 3
    words = "no train token is mostly of the mask values 7; no model can answer them, and their overlap is 0"
    assert f"g, dense probe: {words}" in summary.every_caution()
    words = "no train mask has the mask values 9; their pixels were left out"
    assert f"g, dense probe of test: {words}" in summary.every_caution()


def test_held_out_masks_of_unknown_values_alone_are_no_figure(made: Made, tmp_path: Path):
    root = masks_set(tmp_path / "set")
    paint_masks(root, "test", 9, slice(None))
    summary = made.evaluate(tmp_path, DatasetParams(name="g", kind="masks", path=str(root))).summary
    assert not summary.sets["g"].splits["test"].dense.measured
    assert whys(summary)["dense, test, g"] == "no train mask has its values (9)"


@pytest.mark.parametrize("images", [1, 3])
def test_fewer_images_than_can_be_held_out(made: Made, tmp_path: Path, images: int):
    """A CSV without splits: one image holds out nothing, three leave one class or one held-out image."""
    rows = ["path,label"]
    for i in range(images):
        Image.fromarray(painted(list(CLASSES)[i % 2], 50_000 + i)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{list(CLASSES)[i % 2]}")
    (tmp_path / "set.csv").write_text("\n".join(rows) + "\n")
    dataset = DatasetParams(name="few", kind="csv", path=str(tmp_path / "set.csv"))
    if images == 1:
        with pytest.raises(EvaluationError, match="probes need 'train' and a held-out one"):
            made.evaluate(tmp_path, dataset)
        return
    summary = made.evaluate(tmp_path, dataset).summary
    assert not summary.sets["few"].splits["test"].probes.measured
    assert re.search("one class only|fewer than two", whys(summary)["probes, test, few"])


def test_fewer_images_than_neighbours_is_a_warning(made: Made, tmp_path: Path):
    summary = made.evaluate(tmp_path, folder_of(folder_set(tmp_path / "set", {"train": 2, "test": 2}))).summary
    words = "it, kNN of test: with 20 neighbours and 6 train tiles every tile votes"
    assert any(text.startswith(words) for text in summary.every_caution())
    probes = summary.sets["it"].splits["test"].probes
    assert probes.knn.teacher.plain == probes.knn.majority.plain
    assert list(summary.sets["it"].splits["test"].few_shot) == [1, 2]


def test_a_student_trained_on_the_evaluation_slides_is_named_in_red_in_the_report(
    made: Made, tmp_path: Path, manifests: Manifests, compared: Pareto
):
    recipe = {**made.student.recipe, "items": [*made.student.recipe["items"], ["c", "digest"]]}
    run = made._replace(student=made.student.model_copy(update={"recipe": recipe}))
    manifests["evaluate"] = run.evaluate(tmp_path)
    assert manifests["evaluate"].summary.trained_on() == ["slide c"]
    build_report(manifests, ReportParams(), made.store, compared, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert re.search(r'<p class="alarm" role="alert">.*slide c\. Its figures there flatter it', text)
    red, green, blue = (int(text[text.index("--alarm: #") + 10 :][i : i + 2], 16) for i in (0, 2, 4))
    assert red > 4 * max(green, blue) and re.search(r"\.alarm[^}]*color: var\(--alarm\)", text)


def test_a_student_that_learnt_from_a_slide_that_is_held_out_now_knows_a_set_of_its_tiles(made: Made, tmp_path: Path):
    """What it learnt from is what it says itself, not what the slide table says today."""
    recipe = {**made.student.recipe, "items": [*made.student.recipe["items"], ["c", "digest"]]}
    run = made._replace(student=made.student.model_copy(update={"recipe": recipe}))
    root = folder_set(tmp_path / "set", {"train": 3, "test": 3})
    tile = TileReader(made.store.path(Ref("tiles", made.tiles.recipe_key, "c"))).jpeg(5)
    (root / "test" / "fat" / "seen.jpg").write_bytes(tile)
    summary = run.evaluate(tmp_path, folder_of(root)).summary
    assert "it, test: 1 of its images are among the student's train tiles" in summary.trained_on()


@pytest.mark.parametrize(("group", "words"), [("a", "(a)"), ("P7", "(P7)")])
def test_a_set_of_a_slide_or_patient_that_the_student_learnt_from_is_named(
    made: Made, tmp_path: Path, group: str, words: str
):
    items = tuple(item.model_copy(update={"patient": "P7" if item.id == "a" else None}) for item in made.tokens.items)
    run = made._replace(tokens=made.tokens.model_copy(update={"items": items}))
    rows = ["path,label,split,group"]
    for i in range(24):
        Image.fromarray(painted(list(CLASSES)[i % 3], 60_000 + i)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{list(CLASSES)[i % 3]},{'test' if i >= 12 else 'train'},{group if i == 20 else i}")
    (tmp_path / "set.csv").write_text("\n".join(rows) + "\n")
    summary = run.evaluate(tmp_path, DatasetParams(name="c", kind="csv", path=str(tmp_path / "set.csv"))).summary
    what = f"1 of its groups are named as slides or patients the student learnt from {words}"
    assert summary.trained_on() == [f"c, test: {what}"]


def test_a_patient_in_two_spellings_is_a_warning(made: Made, tmp_path: Path):
    spelt = {"a": "P-07", "c": "p7"}
    items = tuple(item.model_copy(update={"patient": spelt.get(item.id)}) for item in made.tokens.items)
    run = made._replace(tokens=made.tokens.model_copy(update={"items": items}))
    warnings = run.evaluate(tmp_path).summary.every_caution()
    assert any(text.startswith("patients of test: 'p7' is perhaps train's 'P-07'") for text in warnings)


def test_dense_tokens_that_are_no_numbers_are_refused(made: Made, tmp_path: Path):
    shutil.copytree(made.folder, tmp_path / "student")
    weights = load_file(tmp_path / "student" / "adapter" / "adapter.safetensors")
    save_file(
        {name: x * np.nan for name, x in weights.items()}, tmp_path / "student" / "adapter" / "adapter.safetensors"
    )
    with pytest.raises(EvaluationError, match="not all finite"):
        made._replace(folder=tmp_path / "student").evaluate(tmp_path)


def test_slides_of_oblong_images_are_changed_as_the_models_see_them(tmp_path: Path):
    """Their middle squares: ten per cent larger of the whole image would reach over its border."""
    found = make(tmp_path / "run", tall=True).evaluate(tmp_path, robustness_tiles=16).summary.robustness
    assert found.n == 16 and found.changes["scale"].teacher.value > 0


def test_an_image_in_two_slides_of_different_splits_is_an_error(fresh: Made, tmp_path: Path):
    run = fresh.copied(tmp_path / "run")
    first, last = (run.store.path(Ref("tiles", run.tiles.recipe_key, slide)) for slide in ("a", "d"))
    shutil.rmtree(last)
    shutil.copytree(first, last)
    with pytest.raises(EvaluationError, match=rf"{TILES} tiles of 'test' are in 'train' too \(the first: d, tile 0"):
        run.evaluate(tmp_path)
