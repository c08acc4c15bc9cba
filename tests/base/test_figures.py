"""A figure is one thing in memory and in the file, and holds no number that other readers of JSON choke on."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.base.figures import Figure, Interval, NotMeasured

INTERVAL = Interval(low=0.123456789, high=0.2, unit="slide", units=9, method="bootstrap")
CASES = (
    Figure(value=1 / 3, interval=INTERVAL, floors={"untrained": 1 / 7}, n=359),
    Figure(value=4.1, interval=NotMeasured(why="too few rounds for an interval"), n=3),
    Figure(value=0.0, n=1),
    NotMeasured(why="in some resamples the teacher itself gets nothing right"),
)


@pytest.mark.parametrize("figure", CASES, ids=("whole", "without interval", "not asked for", "not measured"))
def test_a_figure_read_back_is_the_figure_that_was_written(figure: Figure | NotMeasured) -> None:
    read = TypeAdapter[Figure | NotMeasured](Figure | NotMeasured).validate_json(figure.model_dump_json())
    assert read == figure and read.measured == isinstance(read, Figure)


def test_a_figure_has_six_significant_digits_from_the_start() -> None:
    assert CASES[0].model_dump()["value"] == 0.333333
    assert INTERVAL.low == 0.123457 and Figure(value=123456789.0, n=1).value == 123457000.0


def test_only_an_interval_that_was_had_has_ends() -> None:
    spans = [figure.span for figure in CASES if isinstance(figure, Figure)]
    assert spans == [INTERVAL, None, None]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_is_a_finite_number(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Figure(value=value, n=1)


def test_a_field_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValidationError, match="retained"):
        Figure.model_validate({"value": 1.0, "n": 1, "retained": 0.5})
