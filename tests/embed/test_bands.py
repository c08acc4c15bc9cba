"""Portions of a slide: every tile once, whole rows, large ones first."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.embed.bands import LEAST, bands, order
from pipeline.params.tiles import TilesParams
from pipeline.tiles.grid import geometry_of

GEOMETRY = geometry_of([(200_000, 100_000, 1.0)], (0.25, 0.25), TilesParams())


def grid(columns: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.divmod(np.arange(columns * rows), columns)
    return x * 448, y * 448


@given(st.integers(1, 120), st.integers(1, 120), st.integers(1, 8), st.sampled_from([1 << 22, 1 << 24, 1 << 30]))
def test_every_tile_is_in_one_portion_and_portions_end_with_a_row(
    columns: int, rows: int, readers: int, cache: int
) -> None:
    x, y = grid(columns, rows)
    order_N = order(GEOMETRY, x, y, cache)
    portions = list(bands(order_N, y, readers))
    assert np.concatenate(portions).tolist() == order_N.tolist()
    assert sorted(order_N.tolist()) == list(range(columns * rows))
    for before, after in itertools.pairwise(portions):
        assert y[before[-1]] != y[after[0]]
        assert len(before) >= LEAST


def test_the_first_portion_leaves_the_others_work_and_the_last_is_small() -> None:
    x, y = grid(100, 100)
    sizes = [len(band) for band in bands(order(GEOMETRY, x, y, 1 << 30), y, 2)]
    assert sizes[0] == 2500 and sizes[-1] <= 200 and sum(sizes) == 10_000 and len(sizes) < 20


def test_where_rows_are_long_for_the_memory_the_slide_is_taken_in_columns() -> None:
    x, y = grid(400, 10)
    order_N = order(GEOMETRY, x, y, 32 << 20)
    runs = np.flatnonzero(np.diff(y[order_N]))
    longest_px = max(np.diff(x[order_N][np.r_[0, runs + 1, len(x) - 1]]).max(), 448 * np.diff(np.r_[0, runs + 1]).max())
    # A row of decoded tiles of a block, with what is decoded above and below it.
    assert 3 * longest_px * (448 + 1024) <= (32 << 20) + 3 * 448 * (448 + 1024)
    assert order(GEOMETRY, x, y, 1 << 30).tolist() == list(range(len(x)))
