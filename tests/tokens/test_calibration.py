import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given
from made.items import tiles_item

from pipeline.base.errors import TeacherError
from pipeline.base.store import Ref
from pipeline.teachers.statistics import measure
from pipeline.tokens.calibration import choose, load, save, spread

counts = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def items(counts, split="train"):
    return [tiles_item(f"{split}-{i}", n, split, key=f"k{i}") for i, n in enumerate(counts)]


@given(counts, st.integers(1, 60))
def test_chosen_tiles_are_distinct_in_bounds_and_spread_over_the_slides(counts, n_tiles):
    chosen = choose(items(counts), n_tiles)
    assert len(chosen) == len({(item.id, row) for item, row in chosen}) == min(n_tiles, sum(counts))
    assert all(0 <= row < item.n for item, row in chosen)
    for item in items(counts):
        share = len(chosen) * item.n / sum(counts)
        assert abs(sum(other.id == item.id for other, _ in chosen) - share) <= 1


def test_calibration_is_never_taken_from_held_out_tiles():
    assert {item.id for item, _ in choose(items([5]) + items([50], "test"), 20)} == {"train-0"}
    assert choose(items([50], "test"), 20) == []
    assert len(spread(items([50], "test"), 20)) == 20


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(0, 1000))
@example([1], 165)  # three tokens that happen to agree: a channel below the floor
def test_mean_and_deviation_are_those_of_all_tokens_together(sizes, seed):
    x_NTD = torch.randn(sum(sizes), 3, 5, generator=torch.Generator().manual_seed(seed)) * 3 + 100
    found = measure(x_NTD.split(sizes), "test")
    flat_MD = x_NTD.flatten(0, 1).double().numpy()
    np.testing.assert_allclose(found.mu, flat_MD.mean(0), rtol=1e-6)
    sigma_D = flat_MD.std(0)
    np.testing.assert_allclose(found.sigma, np.maximum(sigma_D, 0.1 * sigma_D.mean()), rtol=1e-5)


def test_a_dead_channel_gets_a_deviation_that_can_divide():
    x_NTD = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    x_NTD[..., 2] = 7.0
    assert measure([x_NTD], "test").sigma[2] > 0.005
    assert (measure([torch.zeros(2, 2, 3)], "test").sigma > 0).all()


def test_no_tiles_or_nan_is_an_error():
    with pytest.raises(TeacherError, match="no tile"):
        measure([], "test")
    with pytest.raises(TeacherError, match="NaN"):
        measure([torch.full((1, 2, 3), torch.nan)], "test")


def test_what_is_stored_is_read_back_bit_for_bit(store):
    found = measure([torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))], "test")
    save(store, Ref("tokens", "r", "calibration"), {}, found)
    again = load(store.path(Ref("tokens", "r", "calibration")))
    assert again.mu.tobytes() == found.mu.tobytes() and again.sigma.tobytes() == found.sigma.tobytes()
