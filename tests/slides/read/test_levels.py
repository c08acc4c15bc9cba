"""A level is believed to be the slide reduced only where it has the slide's shape."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.slides.read.levels import is_reduced


@example(size=(3, 2), downsample=2.0, up=(False, True))
@given(
    size=st.tuples(st.integers(1, 200_000), st.integers(1, 200_000)),
    downsample=st.floats(1, 300),
    up=st.tuples(st.booleans(), st.booleans()),
)
def test_what_is_rounded_either_way_is_believed(
    size: tuple[int, int], downsample: float, up: tuple[bool, bool]
) -> None:
    width, height = (max(1, int(side / downsample) + more) for side, more in zip(size, up, strict=True))
    assert is_reduced(size, (width, height))


@pytest.mark.parametrize("level", [(0, 0), (0, 50), (100, 0), (100, 1), (1, 50), (100, 200), (50, 50)])
def test_what_has_another_shape_is_not(level: tuple[int, int]) -> None:
    assert not is_reduced((1000, 500), level)
