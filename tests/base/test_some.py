"""The first of many names or lines, and how many are left."""

from pipeline.base.errors import some, some_lines


def test_names_and_lines_are_cut_where_there_are_more_than_asked_for():
    names = ["a", "b", "c"]
    assert some(names, 3) == "a, b, c" and some([], 3) == ""
    assert some(names, 1) == "a and 2 more" and some(names, 2, "; ") == "a; b and 1 more"
    assert some_lines(names, 3) == names and some_lines(names, 1, "more slides") == ["a", "and 2 more slides"]
