"""What an error says, in one line."""

from __future__ import annotations

from pipeline.base.errors import first_line


def test_the_first_line_of_an_error_is_told_and_where_it_says_nothing_its_type() -> None:
    assert first_line(ValueError("no such engine\nat line 7")) == "no such engine"
    assert first_line(RuntimeError()) == "RuntimeError"
