"""Slide labels by attention: a needle in each positive slide, known answers, and the formula by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from pipeline.base.intervals import Units
from pipeline.measures.probes.mil import (
    MOST_AT_ONCE,
    MOST_SEEN,
    Bags,
    GatedAttention,
    How,
    fit,
    passes,
    slide_probes,
    unmeasurable_slides,
)
from pipeline.measures.split_figures import SlideLabels

WIDTH = 16
TILES = 20


def nothing(n: float = 1, note: str = "") -> None: ...


def slide_probe(train: Bags, held: Bags, epochs: int, resamples: int, seed: int) -> SlideLabels:
    how = How(epochs=epochs, resamples=resamples, seed=seed)
    return slide_probes(train, {"test": held}, how, nothing)["test"]


def bags(n: int, seed: int) -> tuple[list[str], list[np.ndarray]]:
    """Slides of 20 tiles of noise; in a tumour slide 4 of them lie elsewhere."""
    random = np.random.default_rng(seed)
    labels = ["tumour" if i % 2 else "normal" for i in range(n)]
    slides = []
    for label in labels:
        tile_nD = random.normal(size=(20, WIDTH))
        if label == "tumour":
            tile_nD[:4, :3] += 4
        slides.append(tile_nD)
    return labels, slides


def classes_of(labels: list[str]) -> np.ndarray:
    return np.array([label == "tumour" for label in labels], np.int64)


def compared(n: int, seed: int) -> Bags:
    labels, slides = bags(n, seed)
    random = np.random.default_rng(seed + 100)
    tile_ND = np.concatenate(slides)
    noise_ND = random.normal(size=tile_ND.shape)
    features = {"teacher": tile_ND, "student": tile_ND.copy(), "untrained": noise_ND}
    return Bags(labels, Units([f"s{i:02}" for i in range(n)], "slide"), [TILES] * n, features)


def test_attention_finds_the_few_tiles_that_decide_and_equal_features_keep_all():
    found = slide_probe(compared(24, 0), compared(40, 1), 15, 200, 0)
    own, moved = found.attention, found.head_transfer
    assert own.teacher.balanced.value > 0.9
    assert own.student == own.teacher and moved.student == moved.teacher
    assert moved.student.balanced.value == own.teacher.balanced.value
    assert moved.untrained.balanced.value == pytest.approx(0.5, abs=0.2)
    for table in (own, moved):
        assert (table.retention.value, table.retention.span.low, table.retention.span.high) == (1.0, 1.0, 1.0)
    assert own.untrained.balanced.value == pytest.approx(0.5, abs=0.2)
    assert own.majority.balanced.value == found.chance == 0.5
    assert (found.n, found.n_train) == (40, 24)
    assert (own.student.balanced.span.unit, own.student.balanced.span.units) == ("slide", 40)


def test_the_teachers_head_knows_nothing_of_another_space_and_keeps_the_teachers_statistics():
    """The student's channels are the teacher's in another order: its own head learns all, the teacher's reads noise.

    In the untrained one's place is the teacher ten deviations off: standardised by its own tiles it would be the
    teacher again.
    """
    changed = [
        replace(b, features={"teacher": x_ND, "student": x_ND[:, ::-1], "untrained": x_ND + 10})
        for b in (compared(24, 0), compared(60, 1))
        for x_ND in [b.features["teacher"]]
    ]
    found = slide_probe(*changed, 15, 200, 0)
    own, transfer = found.attention, found.head_transfer
    assert own.student.balanced.value > 0.9 and own.untrained.balanced.value == own.teacher.balanced.value
    assert transfer.teacher.balanced.value == own.teacher.balanced.value
    assert transfer.student.balanced.value == pytest.approx(0.5, abs=0.2)
    assert transfer.untrained.balanced.value < 0.7
    kept = transfer.retention
    assert kept.span.low < kept.value < kept.span.high < 0.8


def test_gated_attention_is_equation_9():
    torch.manual_seed(0)
    model, h_nD = GatedAttention(WIDTH, 2), torch.randn(7, WIDTH)
    gate = torch.tanh(h_nD @ model.value.weight.T + model.value.bias) * (
        1 / (1 + torch.exp(-(h_nD @ model.gate.weight.T + model.gate.bias)))
    )
    score_n = gate @ model.weigh.weight[0] + model.weigh.bias
    weight_n = torch.exp(score_n) / torch.exp(score_n).sum()
    expected = model.head.weight @ (weight_n @ h_nD) + model.head.bias
    torch.testing.assert_close(model(h_nD, torch.tensor([7]))[0], expected)


def test_slides_of_one_step_are_told_apart():
    """Of unequal sizes, in any company, each slide has its own answer; scores of hundreds do not overflow."""
    torch.manual_seed(0)
    model, sizes = GatedAttention(WIDTH, 3), [5, 1, 9]
    model.weigh.weight.data *= 1000
    slides = [torch.randn(n, WIDTH) for n in sizes]
    together = model(torch.cat(slides), torch.tensor(sizes))
    alone = torch.cat([model(h_nD, torch.tensor([len(h_nD)])) for h_nD in slides])
    torch.testing.assert_close(together, alone)
    assert together.isfinite().all()
    torch.nn.functional.cross_entropy(together, torch.tensor([0, 1, 2])).backward()
    each = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for k, h_nD in enumerate(slides):
        logit_1K = model(h_nD, torch.tensor([len(h_nD)]))
        (torch.nn.functional.cross_entropy(logit_1K, torch.tensor([k])) / 3).backward()
    for one, other in zip(each, model.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, rtol=1e-4, atol=1e-5)


def test_many_slides_are_learnt_from_in_steps_of_several():
    """400 slides, four a step; a needle in each positive one is found all the same."""
    (labels, slides), (held, others) = bags(400, 0), bags(60, 1)
    head = fit(np.concatenate(slides), [TILES] * 400, classes_of(labels), How(epochs=3, resamples=100, seed=0), nothing)
    found_S = head(np.concatenate(others), [TILES] * 60)
    assert balanced_accuracy_score(classes_of(held), found_S) > 0.9


def test_heads_are_fitted_once_for_all_splits():
    seen = []
    train, held = compared(12, 0), {"test": compared(40, 1), "shift": compared(20, 2)}
    how = How(epochs=2, resamples=100, seed=0)
    both = slide_probes(train, held, how, lambda n=1, note="": seen.append(n))
    assert sum(seen) == 3 * 2 * 12 * TILES
    for split, bags in held.items():
        assert both[split] == slide_probe(train, bags, 2, 100, 0)


def test_passes_over_many_slides_are_fewer_and_never_under_two():
    assert [passes(n, 20) for n in (10, 2500, 10_000, 1_000_000)] == [20, 20, MOST_SEEN // 10_000, 2]
    assert passes(1_000_000, 1) == 1 and MOST_AT_ONCE > 1


def test_the_seed_decides_and_torchs_own_stays():
    train, classes_S = compared(10, 0), np.arange(10) % 2
    tile_ND, how = train.features["teacher"], How(epochs=2, resamples=100, seed=3)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again = (fit(tile_ND, train.sizes, classes_S, how, nothing)(tile_ND, train.sizes) for _ in range(2))
    assert (first == again).all() and torch.rand(1) == expected


def test_a_held_out_class_that_no_train_slide_has_is_left_out():
    held = compared(6, 1)
    strange = replace(held, labels=["other", *held.labels[1:]])
    assert slide_probe(compared(6, 0), strange, 2, 100, 0).n == 5


@pytest.mark.parametrize(
    ("train", "held", "words"),
    [
        ([None, None], ["a"], "no train slide has a label"),
        (["a", "a", None], ["a", "b"], "one class only"),
        (["a", "b"], ["a", None], "fewer than two"),
    ],
)
def test_what_cannot_be_learnt_says_why(train: list[str | None], held: list[str | None], words: str):
    assert words in unmeasurable_slides(train, held).why


def test_slides_without_a_label_do_not_stand_in_the_way():
    assert unmeasurable_slides(["a", "b", None], ["a", None, "b"]) is None
