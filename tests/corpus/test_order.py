from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.order import Epoch, Order, Places, kept_rows

counts = st.lists(st.integers(1, 60), min_size=1, max_size=8)
blocks, buffers, seeds = st.integers(1, 20), st.integers(1, 90), st.integers(-5, 2**40)


def whole(order: Order, epoch: int) -> Places:
    return order.epoch(epoch).take(0, order.total)


@given(counts, blocks, buffers, seeds)
def test_every_row_once_an_epoch(rows: list[int], block: int, buffer: int, seed: int) -> None:
    taken = whole(Order(rows, block_rows=block, buffer_rows=buffer, seed=seed), 3)
    places = sorted(zip(taken.slide.tolist(), taken.row.tolist(), strict=True))
    assert places == [(slide, row) for slide, n in enumerate(rows) for row in range(n)]


@given(counts, blocks, buffers, st.data())
def test_a_piece_is_that_piece_of_the_whole(rows: list[int], block: int, buffer: int, data: st.DataObject) -> None:
    order = Order(rows, block_rows=block, buffer_rows=buffer, views=8)
    start = data.draw(st.integers(0, order.total - 1))
    stop = data.draw(st.integers(start + 1, order.total))
    piece, all_of_it = order.epoch(1).take(start, stop), whole(order, 1)
    for name in ("slide", "row", "view"):
        assert np.array_equal(getattr(piece, name), getattr(all_of_it, name)[start:stop])


@given(counts, st.integers(1, 4), st.integers(1, 9))
def test_ranks_are_disjoint_and_equal(rows: list[int], world: int, share: int) -> None:
    order = Order(rows, block_rows=4, buffer_rows=16)
    epoch, batch = order.epoch(0), world * share
    seen: set[tuple[int, int]] = set()
    for first in range(0, order.total - batch + 1, batch):
        for rank in range(world):
            part = epoch.take(first + rank * share, first + (rank + 1) * share)
            places = set(zip(part.slide.tolist(), part.row.tolist(), strict=True))
            assert len(places) == share and not places & seen
            seen |= places


def test_epochs_and_seeds_differ_and_repeat() -> None:
    first, same = Order([50, 70], block_rows=8, buffer_rows=64), Order([50, 70], block_rows=8, buffer_rows=64)
    other = Order([50, 70], block_rows=8, buffer_rows=64, seed=1)
    assert np.array_equal(whole(first, 2).row, whole(same, 2).row)
    assert not np.array_equal(whole(first, 2).row, whole(first, 3).row)
    assert not np.array_equal(whole(first, 2).row, whole(other, 2).row)


def test_a_batch_mixes_slides() -> None:
    order = Order([400] * 10, block_rows=16, buffer_rows=512)
    epoch = order.epoch(0)
    batches = [epoch.take(start, start + 64) for start in range(0, order.total - 63, 64)]
    assert np.mean([len(np.unique(batch.slide)) for batch in batches]) > 5


def test_a_window_reads_blocks_of_neighbours() -> None:
    order = Order([64, 64, 64], block_rows=16, buffer_rows=32)
    taken = order.epoch(0).take(0, 32)
    blocks_seen = {(int(slide), int(row) // 16) for slide, row in zip(taken.slide, taken.row, strict=True)}
    assert len(blocks_seen) == 2


def test_views_are_drawn_anew_each_epoch_and_all_of_them() -> None:
    order = Order([300], block_rows=32, buffer_rows=128, views=8)
    views = np.bincount(whole(order, 0).view, minlength=8)
    assert len(views) == 8 and views.min() > 15
    by_row = [dict(zip(e.row.tolist(), e.view.tolist(), strict=True)) for e in (whole(order, 0), whole(order, 1))]
    assert by_row[0] != by_row[1]


def test_places_outside_are_refused() -> None:
    with pytest.raises(IndexError, match="120"):
        Order([50, 70], block_rows=8, buffer_rows=64).epoch(0).take(100, 121)


def test_twenty_million_rows_take_bytes_a_block_not_a_row() -> None:
    order = Order([10_000] * 2000, block_rows=32, buffer_rows=4096, views=8)
    epoch = order.epoch(0)
    held = sum(value.nbytes for at in (order, epoch) for value in vars(at).values() if isinstance(value, np.ndarray))
    assert order.total == 20_000_000 and held < 25_000_000


@given(st.integers(0, 20_000_000 - 64), st.integers(0, 3))
def test_starting_anywhere_makes_two_windows_at_most(start: int, number: int) -> None:
    order = Order([10_000] * 2000, block_rows=512, buffer_rows=4096)
    made: list[int] = []

    class Counted(Epoch):
        def _window(self, window: int) -> Places:
            made.append(window)
            return super()._window(window)

    assert len(Counted(order, number).take(start, start + 64)) == 64 and len(made) <= 2


@given(counts, st.integers(2, 4), st.integers(1, 5), seeds)
def test_ranks_together_are_one_process_with_the_whole_batch(
    rows: list[int], world: int, share: int, seed: int
) -> None:
    one, many = (Order(rows, block_rows=4, buffer_rows=16, views=4, seed=seed).epoch(1) for _ in range(2))
    for first in range(0, one.order.total - world * share + 1, world * share):
        parts = [many.take(first + rank * share, first + (rank + 1) * share) for rank in range(world)]
        whole_batch = one.take(first, first + world * share)
        for name in ("slide", "row", "view"):
            together = np.concatenate([getattr(part, name) for part in parts])
            assert np.array_equal(together, getattr(whole_batch, name))


@given(counts, st.floats(0.01, 1))
def test_a_fraction_is_its_kept_rows_every_epoch(rows: list[int], fraction: float) -> None:
    order = Order(rows, block_rows=4, buffer_rows=16, fraction=fraction)
    taken = [whole(order, epoch) for epoch in (0, 1)]
    chosen = [set(zip(t.slide.tolist(), t.row.tolist(), strict=True)) for t in taken]
    assert chosen[0] == chosen[1] and len(chosen[0]) == order.total
    assert chosen[0] == {(slide, int(row)) for slide, n in enumerate(rows) for row in kept_rows(n, fraction)}


@given(st.integers(1, 3000), st.floats(1e-6, 1), st.floats(1e-6, 1))
def test_a_smaller_fraction_is_within_a_larger_and_both_are_even(n: int, one: float, other: float) -> None:
    few, many = kept_rows(n, min(one, other)), kept_rows(n, max(one, other))
    assert set(few) <= set(many) <= set(range(n))
    gaps = np.diff(few)
    assert few[0] == 0 and (len(few) == 1 or (gaps.max() <= 2 * gaps.min() and n - few[-1] <= 2 * gaps.max()))


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_fraction_of_hundreds_is_not_rounded_up(percent: int) -> None:
    assert len(kept_rows(300, percent / 100)) == 3 * percent
