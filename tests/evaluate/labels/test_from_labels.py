"""The student's architecture trained on a few labels: fair draws, a rival that learns, figures by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from made.exported import export
from made.labelled import labelled
from made.run import CLASSES, Made, folder_set, painted, whys
from sklearn.metrics import balanced_accuracy_score

from pipeline.base.store import Ref
from pipeline.evaluate.answers import features
from pipeline.evaluate.labels.from_labels import DRAWS, Drawing, draw, label_figures, too_few
from pipeline.evaluate.labels.supervised import Recipe, train_from_labels
from pipeline.measures.fidelity.embedding import Scale
from pipeline.measures.probes.probes import linear_head
from pipeline.params.evaluate import DatasetParams, EvaluateParams
from pipeline.student.exported import untrained_twin

SHORT = Recipe(steps=16, batch_size=12, warmup_steps=2, bn_batches=2)
PARAMS = EvaluateParams(bootstrap=100)
TINY = Recipe(steps=3, batch_size=6, warmup_steps=1, bn_batches=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    export(tmp_path_factory.mktemp("exported") / "student", 24, seed=0)
    return next(tmp_path_factory.getbasetemp().glob("exported*/student"))


def trained(folder: Path, seed: int, recipe: Recipe) -> torch.nn.Module:
    """On six painted tiles a class."""
    images = [painted(name, i) for name in CLASSES for i in range(6)]
    net = untrained_twin(folder, seed, len(CLASSES))
    class_N = np.repeat(np.arange(len(CLASSES)), 6)
    train_from_labels(net, images, class_N, seed, recipe, lambda n=1, note="": None)
    return net


def test_draws_are_balanced_without_replacement_and_seeded() -> None:
    labels = labelled(300, 0).labels
    at_RM = draw(labels, 7, 0)
    assert at_RM.shape == (DRAWS, 21)
    for at_M in at_RM:
        assert len(set(at_M.tolist())) == 21 and set(Counter(labels[i] for i in at_M).values()) == {7}
    assert (draw(labels, 7, 0) == at_RM).all() and (draw(labels, 7, 1) != at_RM).any()
    assert (at_RM[0] != at_RM[1]).any()


def test_a_class_with_too_few_tiles_is_named() -> None:
    labels = ["fat"] * 9 + ["gland"] * 4
    assert too_few(labels, 5).why == "class gland has 4 labelled train tiles"
    assert too_few(labels, 4) is None


def test_the_rival_learns_what_colours_tell(folder: Path) -> None:
    net = trained(folder, 0, SHORT)
    truth = [(k, painted(name, 100 + i)) for k, name in enumerate(CLASSES) for i in range(10)]
    found_NK = features.answering_student(net, 16)([image for _, image in truth])
    assert (found_NK.argmax(axis=1) == [k for k, _ in truth]).mean() > 0.9


def test_a_training_repeats_bit_for_bit_and_leaves_the_seed_alone(folder: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, same, other = (trained(folder, seed, TINY).state_dict() for seed in (1, 1, 2))
    assert torch.rand(1) == expected
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_figures_are_means_over_draws_of_the_protocol_s_probe() -> None:
    train, held = labelled(300, 0, noise=20.0), labelled(200, 1, noise=20.0)
    at_RM = draw(train.labels, 8, 0)
    rival_RN = np.stack([np.array(held.labels)] * DRAWS)
    found = label_figures(Drawing(at_RM, [0.1] * DRAWS), rival_RN, train, held, PARAMS)
    scale, label_N = Scale.of(train.features["student"]), np.array(train.labels)
    scores = [
        balanced_accuracy_score(
            held.labels,
            linear_head(scale(train.features["student"][at_M]), label_N[at_M]).predict(scale(held.features["student"])),
        )
        for at_M in at_RM
    ]
    distilled, mean = found.accuracies.student.balanced, float(np.mean(scores))
    assert found.by_draw["student"] == pytest.approx(scores, rel=1e-5)
    assert distilled.value == pytest.approx(mean, rel=1e-5) and mean < 1
    assert found.from_labels.balanced.value == 1.0 and found.n_train == 24
    assert found.gain.value == pytest.approx(mean - 1, rel=1e-4)
    assert found.accuracies.majority.plain.value == pytest.approx(np.mean(np.array(held.labels) == "fat"), rel=1e-5)
    assert found.gain.span.low <= found.gain.value <= found.gain.span.high < 0


def test_a_net_is_no_better_than_itself() -> None:
    train, held = labelled(300, 0, noise=20.0), labelled(200, 1, noise=20.0)
    at_RM = draw(train.labels, 8, 0)
    scale, label_N = Scale.of(train.features["student"]), np.array(train.labels)
    train_ND, held_ND = scale(train.features["student"]), scale(held.features["student"])
    own_RN = np.stack([linear_head(train_ND[at_M], label_N[at_M]).predict(held_ND) for at_M in at_RM])
    gain = label_figures(Drawing(at_RM, [0.1] * DRAWS), own_RN, train, held, PARAMS).gain
    assert (gain.value, gain.span.low, gain.span.high) == (0.0, 0.0, 0.0)


def test_slides_and_data_sets_are_compared_and_no_net_is_trained_twice(fresh: Made, tmp_path: Path) -> None:
    made = fresh.copied(tmp_path / "run")
    root = folder_set(tmp_path / "set", {"train": 6, "test": 4})
    dataset = DatasetParams(name="made", kind="folder", path=str(root))
    manifest = made.evaluate(tmp_path, dataset, from_labels=(4, 17), label_steps=2)
    found, numbers = manifest.summary, manifest.numbers()
    for split in (found.lead, found.sets["made"].splits["test"]):
        assert {k: row.measured for k, row in split.from_labels.items()} == {4: True, 17: False}
    # Nor has an untrained teacher on four tiles a retention worth a figure.
    assert {what: why for what, why in whys(found).items() if not what.startswith("retention of")} == {
        "robustness": "0 held-out tiles (at least 8; evaluate.robustness_tiles)",
        "from_labels 17, test": "class fat has 16 labelled train tiles",
        "from_labels 17, test, made": "class fat has 6 labelled train tiles",
    }
    for prefix in ("labels_4", "made_test_labels_4"):
        alone, distilled = numbers[f"{prefix}_from_labels"], numbers[f"{prefix}_student"]
        assert numbers[f"{prefix}_gain"] == pytest.approx(distilled - alone, abs=1e-5)

    nets = sorted(path.parent for path in made.store.root.glob("classifiers/*/*/weights.safetensors"))
    assert len(nets) == 2 * DRAWS
    assert {use for use in manifest.uses if use.startswith("classifiers/")} == {
        str(path.relative_to(made.store.root)) for path in nets
    }
    # Killed after its first training: the others are there, and it comes out the same.
    made.store.delete(Ref.parse(str(nets[0].relative_to(made.store.root))))
    kept = [path.stat().st_mtime_ns for path in nets[1:]]
    again = made.evaluate(tmp_path, dataset, from_labels=(4, 17), label_steps=2)
    assert again == manifest and [path.stat().st_mtime_ns for path in nets[1:]] == kept
