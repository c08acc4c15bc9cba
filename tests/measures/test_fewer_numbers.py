"""Fewer numbers a tile: components lose what an eigenvalue says, and a code that holds the label finds it."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.base.intervals import Resampler, Units
from pipeline.measures.fidelity.embedding import Scale, cosine
from pipeline.measures.probes.probes import Labelled
from pipeline.measures.widths import Components, Probed, Tiles, widths

N, D, SIZES = 240, 48, (2, 4)


def embeddings(seed: int) -> tuple[np.ndarray, list[str]]:
    """Two classes that lie apart along the third widest axis of many: two components do not see them, four do."""
    rng = np.random.default_rng(seed)
    class_N = rng.integers(0, 2, N)
    along_ND = rng.normal(size=(N, D)) * np.array([5.0, 4.0, 0.3, 0.2, *[0.1] * (D - 4)])
    along_ND[:, 2] += 2.0 * (2 * class_N - 1)
    mixed_DD = np.linalg.qr(np.random.default_rng(9).normal(size=(D, D)))[0]
    return along_ND @ mixed_DD, [f"class {c}" for c in class_N]


def units() -> Units:
    return Units([f"s{i % 6}" for i in range(N)], "slide")


def test_each_way_is_what_its_numbers_hold() -> None:
    (train_ND, train_labels), (held_ND, held_labels) = embeddings(0), embeddings(1)
    scale = Scale.of(train_ND)
    own = Components.of(train_ND, scale, max(SIZES))
    values, vectors_DD = np.linalg.eigh(np.cov(scale(train_ND), rowvar=False, bias=True))
    order = np.argsort(values)[::-1]
    np.testing.assert_allclose(np.var(own.along(train_ND, 4), axis=0), values[order][:4], rtol=1e-9)
    np.testing.assert_allclose(np.abs(np.diag(own.axes_DK.T @ vectors_DD[:, order][:, :4])), 1, rtol=1e-9)

    # A nested vector with the label first, as no component has it; it comes back as the embedding itself.
    of = {"class 0": -1.0, "class 1": 1.0}
    nested_NK = {s: np.array([[of[x], 0, 0, 0] for x in y]) for s, y in (("t", train_labels), ("h", held_labels))}
    train = Labelled(train_labels, units(), {"nested": nested_NK["t"], "student": train_ND, "teacher": train_ND})
    held = Labelled(held_labels, units(), {"nested": nested_NK["h"], "student": held_ND, "teacher": held_ND})
    probed = Probed.of_tiles(train, held, 5, 50, 0)
    tiles = Tiles(held.features, Resampler(units(), 50, 0))
    both = {"student": own, "teacher": own}
    found = widths(SIZES, lambda nested_NK, k: held_ND, both, tiles, probed)
    for k in SIZES:
        assert found[k].nested.cosine.value == pytest.approx(1) and found[k].nested.linear.balanced.value == 1
        expected = cosine(scale(held_ND), own.back(held_ND, k)).mean()
        assert found[k].teacher_pca.cosine.value == pytest.approx(expected, rel=1e-5)
        assert found[k].student_pca == found[k].teacher_pca
    assert found[2].teacher_pca.linear.balanced.value < 0.7 < 0.95 < found[4].teacher_pca.linear.balanced.value
    assert found[2].teacher_pca.knn.balanced.value < 0.7
    without = widths(SIZES, lambda nested_NK, k: held_ND, both, tiles, None)
    assert without[2].nested.cosine == found[2].nested.cosine and without[2].nested.knn is None
