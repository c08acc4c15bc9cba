"""What a reader is told before trusting a figure."""

from __future__ import annotations

import unicodedata

import pytest
from made.figures import figure

from pipeline.evaluate.trust.cautions import of_classes, of_groups, of_weak_teacher


def test_classes_that_one_side_lacks_are_named():
    found = of_classes("probes of test", ["a", "b", "c"], [*"a" * 20, "d", "d", *"b" * 20])
    assert found == [
        "probes of test: 2 of 42 were left out, since train has no such class (d)",
        "probes of test: none is of the class c; balanced accuracy is of the other 2",
    ]
    assert of_classes("probes of test", ["a", "b"], ["b", "a"] * 10) == []


def test_a_class_of_a_handful_of_tiles_is_named():
    (found,) = of_classes("probes of test", ["a", "b", "rare"], [*"ab" * 20, "rare"])
    assert "fewer than 10 held-out tiles (rare 1)" in found


@pytest.mark.parametrize(
    "other", ["ac", "AC", "Tubular  Adenoma", "tubular_adenoma", unicodedata.normalize("NFD", "drüse"), "her2+"]
)
def test_classes_that_are_probably_one_are_named(other: str):
    names = ["Ac", "Tubular adenoma", "drüse", "HER2+", "HER2-"]
    found = [text for text in of_classes("probes of test", names, [*names, other]) if "count as two" in text]
    assert len(found) == 1 and ascii(other) in found[0]


@pytest.mark.parametrize(("other", "near"), [("p7", True), ("P-07", True), ("P8", False), ("1-23", False)])
def test_a_patient_in_another_spelling_is_named(other: str, near: bool):
    found = of_groups("patients of test", ["P7", "12-3", None], [other, None])
    assert len(found) == near and all(repr(other) in text for text in found)
    assert of_groups("patients of test", ["P7"], ["P7"]) == []


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (0.9, None),
        (0.69, "an untrained network (0.60)"),
        (0.55, "the majority class (0.50) and an untrained network (0.60)"),
    ],
)
def test_a_teacher_that_does_no_better_than_a_floor_is_named(teacher: float, words: str | None):
    beside = figure(teacher, teacher - 0.1, teacher + 0.1).model_copy(
        update={"floors": {"untrained": 0.6, "majority": 0.5}}
    )
    found = of_weak_teacher("linear of test", beside)
    assert [words in text for text in found] == ([] if words is None else [True])


def test_a_teacher_below_a_floor_is_named_without_an_interval_too():
    beside = figure(0.55).model_copy(update={"floors": {"untrained": 0.6, "majority": 0.5}})
    assert "an untrained network (0.60)" in of_weak_teacher("linear of test", beside)[0]
