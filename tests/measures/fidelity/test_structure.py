"""Structure of embeddings: known answers, and each figure against another way to compute it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy, ortho_group
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import NearestNeighbors

from pipeline.base.intervals import Jackknife, Units
from pipeline.measures.fidelity.neighbours import BLOCK_ROWS, nearest
from pipeline.measures.fidelity.structure import MIN_TILES, cka, mutual_neighbours, rankme, structure, too_few
from pipeline.measures.split_figures import Structure

WIDTH = 12


def features(n: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, WIDTH))


def compared(x_ND: np.ndarray, y_ND: np.ndarray, slide_N: list[str]) -> Structure:
    """Of a student; its untrained twin is noise."""
    return structure(x_ND, {"student": y_ND, "untrained": features(len(x_ND), 9)}, Units(slide_N, "slide"), 100, 0)


def test_equal_embeddings_have_everything_in_common():
    x_ND = features()
    found = compared(x_ND, x_ND.copy(), [f"s{i % 8}" for i in range(200)])
    for figure in (found.cka.student, found.neighbours.student):
        assert (figure.value, figure.span.low, figure.span.high) == (1.0, 1.0, 1.0)
    assert found.rankme.student == found.rankme.teacher and found.cka.teacher is None
    assert (found.cka.student.span.method, found.cka.student.span.units) == ("jackknife", 8)


def test_a_random_embedding_has_neighbours_by_chance_alone():
    found = compared(features(1000), features(1000, 1), ["s"] * 1000)
    near = found.neighbours.student
    assert near.floors["chance"] == pytest.approx(10 / 999, rel=1e-5)
    assert near.value == pytest.approx(near.floors["chance"], abs=0.01)
    assert found.cka.student.value < 0.05


def test_cka_by_grams_of_samples():
    """Kornblith et al., eq. 3: HSIC of the centred N x N kernels."""
    x_ND, y_ND = features(), features() @ np.random.default_rng(1).normal(size=(WIDTH, 5))
    centre = np.eye(200) - 1 / 200
    k, l = (centre @ z @ z.T @ centre for z in (x_ND, y_ND))
    by_hand = np.trace(k @ l) / np.sqrt(np.trace(k @ k) * np.trace(l @ l))
    assert cka(x_ND, y_ND) == pytest.approx(by_hand)


def test_cka_and_neighbours_do_not_see_a_rotation_or_a_size():
    x_ND = features()
    turned_ND = 3 * x_ND @ ortho_group.rvs(WIDTH, random_state=0)
    assert cka(x_ND, turned_ND) == pytest.approx(1.0)
    assert cka(x_ND, turned_ND + 5) == pytest.approx(1.0)
    assert mutual_neighbours(x_ND, turned_ND).mean() == 1.0


def test_shared_neighbours_by_hand():
    """On a circle: turning the last three points around exchanges who is near whom."""
    angle = np.radians([0, 10, 25, 180, 190, 205])
    other = angle[[0, 1, 3, 2, 4, 5]]
    x_ND, y_ND = (np.stack([np.cos(a), np.sin(a)], axis=1) for a in (angle, other))
    # 2 nearest of x: {1,2} {0,2} {1,0} {4,5} {3,5} {4,3}; of y: {1,3} {0,3} {4,5} {1,0} {2,5} {4,2}.
    assert mutual_neighbours(x_ND, y_ND, 2) == pytest.approx([0.5, 0.5, 0, 0, 0.5, 0.5])


def test_the_jackknife_leaves_one_block_out_at_a_time():
    """CKA's and RankMe's intervals against figures of the tiles that are left, each computed anew."""
    x_ND, y_ND = features(), features() + 0.5 * features(seed=1)
    slide_N = [f"s{i % 8}" for i in range(200)]
    found, left_out = compared(x_ND, y_ND, slide_N), Jackknife(Units(slide_N, "slide"))
    keep = [np.arange(200) % 8 != i for i in range(8)]
    by_hand = [
        (found.cka.student, cka(x_ND, y_ND), [cka(x_ND[k], y_ND[k]) for k in keep]),
        (found.rankme.teacher, rankme(x_ND), [rankme(x_ND[k]) for k in keep]),
        (found.rankme.student, rankme(y_ND), [rankme(y_ND[k]) for k in keep]),
    ]
    for figure, value, left in by_hand:
        expected = left_out.interval(value, left)
        assert (figure.span.low, figure.span.high) == pytest.approx((expected.low, expected.high), rel=1e-5)


def test_rankme_is_the_exponential_of_the_entropy_of_singular_values():
    x_ND = features() * np.linspace(0.1, 3, WIDTH)
    assert rankme(x_ND) == pytest.approx(np.exp(entropy(np.linalg.svd(x_ND, compute_uv=False))))


def test_rankme_counts_the_directions():
    x_ND = features()[:, :3] @ ortho_group.rvs(WIDTH, random_state=0)[:3]
    assert rankme(x_ND) == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("n", [50, BLOCK_ROWS + 3])
def test_neighbours_are_scikit_learns(n: int):
    query_ND, reference_MD = features(n), features(300, 1)
    index_Nk, cosine_Nk = nearest(query_ND, reference_MD, 10)
    distance, _ = NearestNeighbors(n_neighbors=10, metric="cosine").fit(reference_MD).kneighbors(query_ND)
    # By their own cosines, not by name: of two that differ in the seventh digit fp32 may take either.
    own_Nk = 1 - np.take_along_axis(cosine_distances(query_ND, reference_MD), index_Nk, axis=1)
    for found_Nk in (own_Nk, cosine_Nk):
        np.testing.assert_allclose(found_Nk, 1 - distance, atol=1e-5)
    assert all(len(set(row_k)) == 10 for row_k in index_Nk.tolist())


def test_nobody_is_their_own_neighbour():
    x_ND = features(BLOCK_ROWS + 5)
    index_Nk, _ = nearest(x_ND, x_ND, 3, same=True)
    assert not (index_Nk == np.arange(len(x_ND))[:, None]).any()


def test_too_few_tiles_say_so():
    assert too_few(MIN_TILES) is None and "neighbours" in too_few(MIN_TILES - 1).why
    with pytest.raises(ValueError, match="neighbours"):
        compared(features(5), features(5), ["s"] * 5)
