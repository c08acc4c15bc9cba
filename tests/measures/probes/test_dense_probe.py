"""Dense probe: known answers, and the overlaps against torchmetrics."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from pipeline.base.intervals import Units
from pipeline.measures.probes.dense import IGNORE, dense_probe, gather, overlap, token_labels
from pipeline.measures.split_figures import Dense

N, GRID, D = 24, (8, 8), 128


def scene(n: int, seed: int, *, noise: float = 0.1) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Masks whose classes fill whole cells; tokens that say which, and an untrained model that does not."""
    random = np.random.default_rng(seed)
    label_NT = (random.random((n, 64)) < 0.3).astype(np.uint8)
    mask_NHW = label_NT.reshape(n, 8, 8).repeat(4, 1).repeat(4, 2)
    token_NTD = random.normal(size=(n, 64, D)) * noise
    token_NTD[..., :64] += label_NT[..., None]
    features = {"teacher": token_NTD, "student": token_NTD.copy(), "untrained": random.normal(size=(n, 64, D))}
    return features, mask_NHW


def batches(features: dict[str, np.ndarray], mask_NHW: np.ndarray, step: int = 5):
    for i in range(0, len(mask_NHW), step):
        yield {name: x[i : i + step] for name, x in features.items()}, mask_NHW[i : i + step]


def pairs() -> Units:
    """Two tiles an image."""
    return Units([f"i{i // 2:02}" for i in range(N)], "image")


def single() -> Units:
    return Units([f"i{i:02}" for i in range(N)], "image")


def probed(step: int = 5) -> Dense:
    train = gather(batches(*scene(N, 0)), GRID, N)
    return dense_probe(train, batches(*scene(N, 1), step), pairs(), GRID, (0, 255), 100, 0)


def test_a_student_equal_to_the_teacher_keeps_exactly_all():
    found = probed()
    for table in (found.linear, found.head_transfer):
        assert (table.retention.value, table.retention.span.low, table.retention.span.high) == (1.0, 1.0, 1.0)
        assert table.student == table.teacher
    teacher, untrained = found.linear.teacher.miou, found.linear.untrained.miou
    assert teacher.value > 0.7 > 0.5 > untrained.value == teacher.floors["untrained"]
    assert (found.values, teacher.n, found.images) == ((0, 255), N, N // 2)
    assert (teacher.span.unit, teacher.span.units) == ("image", N // 2)


def test_the_majority_fills_every_pixel_with_one_class():
    _, mask_NHW = scene(N, 1)
    background = float((mask_NHW == 0).mean())
    found = probed().linear.majority
    assert found.miou.value == pytest.approx(background / 2, rel=1e-5)
    assert found.dice.value == pytest.approx(2 * background / (1 + background) / 2, rel=1e-5)


def test_batches_do_not_matter():
    assert probed(5) == probed(24)


def test_overlaps_are_torchmetrics():
    random = np.random.default_rng(0)
    truth, found = random.integers(0, 3, (2, 4000))
    counts = np.array([[(a & b).sum(), a.sum(), b.sum()] for a, b in ((found == k, truth == k) for k in range(3))])
    miou, dice = overlap(counts.T.astype(float))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.functional.classification import multiclass_f1_score, multiclass_jaccard_index
    theirs = torch.tensor(found), torch.tensor(truth), 3
    assert miou == pytest.approx(float(multiclass_jaccard_index(*theirs)), abs=1e-6)
    assert dice == pytest.approx(float(multiclass_f1_score(*theirs, average="macro")), abs=1e-6)


def test_a_token_takes_the_class_of_most_of_its_pixels():
    mask_NHW = np.zeros((1, 4, 4), np.uint8)
    mask_NHW[0, :2, :2] = [[1, 1], [1, 0]]
    mask_NHW[0, 2:, 2:] = [[IGNORE, IGNORE], [IGNORE, 1]]
    assert token_labels(mask_NHW, (2, 2)).tolist() == [[1, 0, 0, IGNORE]]


def test_a_side_that_the_grid_does_not_divide():
    mask_NHW = np.tile((np.arange(10) >= 5).astype(np.uint8), (1, 10, 1))
    assert token_labels(mask_NHW, (3, 4)).reshape(3, 4).tolist() == [[0, 0, 1, 1]] * 3


def test_ignored_pixels_count_nowhere():
    features, mask_NHW = scene(N, 0)
    train = gather(batches(features, mask_NHW), GRID, N)
    held, truth_NHW = scene(N, 1)
    wrong = {name: x.copy() for name, x in held.items()}
    hidden_NHW = truth_NHW.copy()
    hidden_NHW[:, :, 16:] = IGNORE
    for x_NTD in wrong.values():
        x_NTD.reshape(N, 8, 8, D)[:, :, 5:] += 50
    names = single()
    found, clean = (dense_probe(train, batches(x, hidden_NHW), names, GRID, (0, 255), 100, 0) for x in (wrong, held))
    assert found.linear.teacher == clean.linear.teacher


def test_a_class_that_no_token_has_counts_with_an_overlap_of_nothing():
    """A third class, one row of pixels in each tile: the others' IoU are what they were but for its pixels."""
    train, (held, truth_NHW) = gather(batches(*scene(N, 0)), GRID, N), scene(N, 1)
    names = single()
    truth_NHW[:, 0] = 2
    three = dense_probe(train, batches(held, truth_NHW), names, GRID, (0, 1, 2), 100, 0).linear.teacher
    truth_NHW[:, 0] = IGNORE
    two = dense_probe(train, batches(held, truth_NHW), names, GRID, (0, 255), 100, 0).linear.teacher
    assert three.miou.value < 2 / 3 < two.miou.value


def test_a_teacher_that_gets_nothing_has_no_retention():
    """Every train token background, every held-out pixel the other class: nothing to keep, and no huge ratio."""
    features, mask_NHW = scene(N, 0)
    train = gather(batches(features, mask_NHW), GRID, N)
    held = {name: np.full_like(x, -9.0) for name, x in scene(N, 1)[0].items()}
    found = dense_probe(
        train,
        batches(held, np.ones_like(mask_NHW)),
        Units([f"i{i:02}" for i in range(N)], "image"),
        GRID,
        (0, 255),
        100,
        0,
    )
    assert found.linear.teacher.miou.value == 0 and not found.linear.retention.measured


def test_ignored_tokens_are_not_learnt_from():
    features, mask_NHW = scene(N, 0)
    mask_NHW[: N // 2] = IGNORE
    assert len(gather(batches(features, mask_NHW), GRID, N).label_M) == N // 2 * 64
