"""The whole comparison on a small real store: tiles and tokens as the rooms upstream write them, a timm folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from made.exported import SIDE_PX, export
from made.items import TEACHER, student_manifest, tiles_item, tokens_item
from made.run import whys
from safetensors.torch import save_file

from pipeline.base.arrays import ArrayWriter
from pipeline.base.errors import EvaluationError
from pipeline.base.items import TilesManifest, TokensManifest
from pipeline.base.store import Ref, Store
from pipeline.evaluate.answers import features
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.evaluate.selection import BAG_TILES, Sample, bags, check_leaks, count, spread
from pipeline.evaluate.stage import evaluate_student
from pipeline.evaluate.teacher_source import TeacherSource
from pipeline.evaluate.upstream import Upstream
from pipeline.params.evaluate import EvaluateParams
from pipeline.params.tokens import TokensParams
from pipeline.student.exported import load_student, untrained_twin
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg

WIDTH, TILES = 24, 20
CLASSES = {"fat": (240, 235, 240), "gland": (150, 80, 160), "stroma": (230, 150, 190)}
PARAMS = EvaluateParams(bootstrap=100, batch_size=16, episodes=5)
NOWHERE = TeacherSource(TokensParams(teacher="a teacher that nobody has"), 512)
SPLITS = ("train", "train", "test", "shift")


class Run(NamedTuple):
    """What the stages upstream leave."""

    tiles: TilesManifest
    tokens: TokensManifest
    student: Path
    store: Store


def write_tiles(store: Store, key: str, seed: int, labelled: bool) -> None:
    random = np.random.default_rng(seed)
    with store.write(Ref("tiles", "t", key), {}) as folder:
        writer = TileWriter(folder)
        for i in range(TILES):
            name = list(CLASSES)[i % len(CLASSES)]
            rgb_HWC = np.clip(random.normal(CLASSES[name], 25, (SIDE_PX, SIDE_PX, 3)), 0, 255).astype(np.uint8)
            writer.append(encode_jpeg(rgb_HWC, 95), label=name if labelled and i else None)
        writer.close(Meta(kind="file", tile_px=1))


def make(root: Path, *, splits: tuple[str, ...] = SPLITS, labelled: bool = True, teacher: str = "student") -> Run:
    """A run in which the cached teacher is the student itself, or knows nothing of the tiles (`noise`)."""
    store, student = Store(root / "store"), root / "student"
    export(student, WIDTH, seed=0)
    tiles, tokens = [], []
    for n, split in enumerate(splits):
        write_tiles(store, f"k{n}", n, labelled)
        folder = store.path(Ref("tiles", "t", f"k{n}"))
        sample = Sample(f"s{n}", folder, folder, np.arange(TILES), (None,) * TILES)
        cls_ND = np.random.default_rng(n).normal(5, 1, (TILES, WIDTH))
        if teacher == "student":
            model = load_student(student)
            (cls_ND,) = next(features.student_features([model], [sample], 7, lambda n=1, note="": None))
        with store.write(Ref("tokens", "u", f"k{n}"), {}) as folder:
            attributes = {"grid": [7, 7], "patch": "none"}
            ArrayWriter(folder / "cls", (TILES, 1, WIDTH), 8, np.float16, attributes)
            writer = ArrayWriter(folder / "cls", (TILES, 1, WIDTH), 8, np.float16)
            for chunk in range(writer.n_chunks):
                writer.write(chunk, cls_ND[writer.rows(chunk)].astype(np.float16)[:, None])
        tiles.append(tiles_item(f"s{n}", TILES, split, key=f"k{n}"))
        tokens.append(tokens_item(f"s{n}", TILES, split, key=f"k{n}"))
    recipe = {"teacher": TEACHER | {"name": "a teacher", "width": WIDTH}}
    return Run(
        TilesManifest(recipe_key="t", recipe={"jpeg_quality": 95}, items=tuple(tiles)),
        TokensManifest(recipe_key="u", recipe=recipe, items=tuple(tokens)),
        student,
        store,
    )


def evaluate(run: Run, plots: Path) -> EvaluateManifest:
    upstream = Upstream(run.tiles, run.tokens, student_manifest(), run.student)
    return evaluate_student(upstream, PARAMS, NOWHERE, run.store, plots)


@pytest.fixture(scope="module")
def equal(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make(tmp_path_factory.mktemp("equal"))


def test_a_student_equal_to_the_teacher_keeps_everything(equal: Run, tmp_path: Path):
    manifest = evaluate(equal, tmp_path)
    found = manifest.summary
    assert found.primary == "test" and set(found.splits) == {"test", "shift"}
    assert found.lead.fidelity.cosine.value == pytest.approx(1.0, abs=1e-4)
    assert found.lead.fidelity.cosine.n == TILES
    for split in found.splits.values():
        for table in split.probes.by_kind().values():
            assert table.retention.value == pytest.approx(1.0)
            share = table.untrained.balanced.value / table.teacher.balanced.value
            assert table.retention.floors["untrained"] == pytest.approx(share, rel=1e-4)
        assert split.probes.n == TILES - 1
        for shots in (1, 2, 4):
            assert split.few_shot[shots].accuracies.retention.value == pytest.approx(1.0)
        assert split.structure.cka.student.value == pytest.approx(1.0, abs=1e-3)
        assert split.structure.neighbours.student.value > 0.95
    assert manifest.numbers()["linear_retention"] == pytest.approx(1.0)


def test_what_cannot_be_had_says_why(equal: Run, tmp_path: Path):
    found = evaluate(equal, tmp_path).summary
    assert "cannot be run here" in found.robustness.why
    assert "no dense adapter" in found.lead.patch.why
    assert "no train slide has a label" in found.lead.slide_labels.why
    assert {"robustness", "patch, test", "slide_labels, shift"} <= set(whys(found))


def test_the_manifest_and_the_plots_repeat_byte_for_byte(equal: Run, tmp_path: Path):
    for name in ("a", "b"):
        evaluate(equal, tmp_path / name).save(tmp_path / name / "evaluate.json")
    for file in ("evaluate.json", "probes.csv", "fidelity.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert str(tmp_path) not in (tmp_path / "a" / "evaluate.json").read_text()


def test_plots_hold_a_row_a_figure(equal: Run, tmp_path: Path):
    evaluate(equal, tmp_path)
    with open(tmp_path / "probes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (3 + 3 + 3 + 1)
    with open(tmp_path / "fidelity.csv", newline="") as file:
        assert [(row["slide"], row["split"]) for row in csv.DictReader(file)] == [("s3", "shift"), ("s2", "test")]


def test_a_teacher_that_the_student_never_met_scores_nothing(tmp_path: Path):
    manifest = evaluate(make(tmp_path / "run", teacher="noise"), tmp_path)
    found = manifest.summary.lead.fidelity
    assert abs(found.cosine.value) < 0.3
    assert manifest.numbers()["cosine_raw_constant"] == found.raw.floors["constant"] > 0.9


def test_without_labels_the_probes_say_why(tmp_path: Path):
    found = evaluate(make(tmp_path / "run", labelled=False), tmp_path).summary
    assert "no train tile has a label" in found.lead.probes.why
    assert found.lead.fidelity.cosine.value > 0.99
    assert (tmp_path / "probes.csv").read_text().count("\n") == 1


def test_without_held_out_slides_the_run_goes_on_and_says_so(tmp_path: Path):
    manifest = evaluate(make(tmp_path / "run", splits=("train",)), tmp_path)
    assert manifest.items == () and manifest.summary.splits == {} and manifest.summary.primary is None
    assert set(whys(manifest.summary)) == {"fidelity", "probes", "robustness"}


def test_a_student_of_another_width_is_refused(equal: Run, tmp_path: Path):
    export(tmp_path / "student", WIDTH + 1, seed=0)
    with pytest.raises(EvaluationError, match="25 channels, the teacher in 24"):
        evaluate(equal._replace(student=tmp_path / "student"), tmp_path)


def test_a_student_that_answers_nan_is_refused(equal: Run, tmp_path: Path):
    export(tmp_path / "student", WIDTH, seed=0)
    model = load_student(tmp_path / "student")
    model.get_classifier().bias.fill_(float("nan"))
    save_file(model.state_dict(), tmp_path / "student" / "model.safetensors")
    with pytest.raises(EvaluationError, match="finite"):
        evaluate(equal._replace(student=tmp_path / "student"), tmp_path)


@pytest.mark.parametrize(
    ("key", "patient", "words"),
    [("k0", None, "the same slide is in 'train' as 'a'"), ("k1", "P7", "patient 'P7' is in 'train' with 'a'")],
)
def test_a_leak_is_an_error(key: str, patient: str | None, words: str):
    train, held = tokens_item("a", 1, key="k0", patient="P7"), tokens_item("b", 1, "test", key=key, patient=patient)
    with pytest.raises(EvaluationError, match=words):
        check_leaks(TokensManifest(items=(train, held)))


def test_slides_without_a_patient_share_none():
    train, held = tokens_item("a", 1), tokens_item("b", 1, "test")
    check_leaks(TokensManifest(items=(train, held)))


def test_a_cap_spreads_over_all_slides():
    samples = [Sample(f"s{i}", Path(), Path(), np.arange(n), (None,) * n) for i, n in enumerate((10, 30, 60))]
    kept = spread(samples, 10)
    assert [len(sample.rows) for sample in kept] == [1, 3, 6] and count(kept) == 10
    assert kept[1].rows.tolist() == [0, 10, 20]
    assert spread(samples, 100) == samples


def test_of_many_slides_each_is_seen_through_some_tiles():
    """As many as tile labels are probed on, while that leaves `BAG_TILES` a slide; else so many of each."""

    def slides(n: int, tiles: int, label: str | None = "a") -> list[Sample]:
        return [Sample(f"s{i}", Path(), Path(), np.arange(tiles), (None,) * tiles, label) for i in range(n)]

    assert [len(sample.rows) for sample in bags(slides(10, 100), 2000)] == [100] * 10
    assert [len(sample.rows) for sample in bags(slides(10, 100), 200)] == [20] * 10
    many = bags([*slides(50, 100), *slides(3, 5), *slides(9, 100, None)], 20)
    assert [len(sample.rows) for sample in many] == [BAG_TILES] * 50 + [5] * 3
    assert many[0].rows[:3].tolist() == [0, 6, 12] and many[0].rows[-1] == 93


def test_batches_do_not_change_the_features(equal: Run):
    folder = equal.store.path(Ref("tiles", "t", "k0"))
    samples = [Sample("s0", folder, folder, np.array([4, 1, 9, 2, 0]), (None,) * 5)]
    model = load_student(equal.student)
    by_batch = [next(features.student_features([model], samples, n, lambda n=1, note="": None))[0] for n in (1, 2, 5)]
    for other in by_batch[1:]:
        np.testing.assert_allclose(other, by_batch[0], atol=1e-5)


def test_the_untrained_twin_is_seeded_and_leaves_the_seed_alone(equal: Run):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    twins = [untrained_twin(equal.student, seed) for seed in (5, 5, 6)]
    assert torch.rand(1) == expected
    first, same, other = (twin.conv_stem.weight for twin in twins)
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert json.loads((equal.student / "config.json").read_text())["num_classes"] == twins[0].num_classes
