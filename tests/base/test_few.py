"""The first of many names or lines, and how many are left."""

from pipeline.base import few


def test_names_and_lines_are_cut_where_there_are_more_than_asked_for():
    names = ["a", "b", "c"]
    assert few.some(names, 3) == "a, b, c" and few.some([], 3) == ""
    assert few.some(names, 1) == "a and 2 more" and few.some(names, 2, "; ") == "a; b and 1 more"
    assert few.lines(names, 3) == names and few.lines(names, 1, "more slides") == ["a", "and 2 more slides"]
