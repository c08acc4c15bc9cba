"""Figures kept in the store: read back as they were, by content, in the form that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from pipeline.base.errors import CorruptItem
from pipeline.base.figures import Figure, NotMeasured, Result
from pipeline.base.kept import Kept, Slot
from pipeline.base.store import Store


class Found(Result):
    """What is kept here."""

    share: Figure | NotMeasured
    by: dict[int, float]


class Said(Result):
    """The same in other words."""

    share: Figure | NotMeasured
    """A part of the whole."""
    by: dict[int, float]


class More(Found):
    more: int = 0


FORM = TypeAdapter(tuple[Found, list[str]])
VALUE = Found(share=Figure(value=0.1234567, n=3), by={16: 0.1 + 0.2, 4: 1e-17}), ["b", "a"]
RECIPE = {"figures": "share", "recipe_version": 1}


def slot(root: Path, basis: str = "tiles") -> Slot[tuple[Found, list[str]]]:
    return Kept(Store(root), "evaluate").slot(RECIPE, {"of": basis}, FORM)


def test_what_is_read_back_is_what_was_kept_in_its_order(tmp_path: Path) -> None:
    found = slot(tmp_path).keep(VALUE, {"a.jpg": b"picture"})
    assert found == VALUE and list(found[0].by) == [16, 4]
    assert slot(tmp_path).find() == VALUE and slot(tmp_path, "others").find() is None
    assert (slot(tmp_path).folder / "a.jpg").read_bytes() == b"picture"


def test_they_are_made_once(tmp_path: Path) -> None:
    times: list[int] = []

    def make() -> tuple[Found, list[str]]:
        times.append(1)
        return VALUE

    assert [slot(tmp_path).figures(make) for _ in range(3)] == [VALUE] * 3 and len(times) == 1


def test_of_two_that_keep_them_at_once_the_first_counts(tmp_path: Path) -> None:
    first, second = slot(tmp_path), slot(tmp_path)
    assert first.find() is None and second.find() is None
    first.keep(VALUE)
    assert second.keep((VALUE[0], ["otherwise"])) == VALUE


def test_another_form_is_another_item_and_other_words_are_not(tmp_path: Path) -> None:
    kept = Kept(Store(tmp_path), "evaluate")
    refs = [kept.slot(RECIPE, {}, TypeAdapter(form)).ref for form in (Found, Said, More)]
    assert refs[0] == refs[1] != refs[2]


def test_recipe_and_basis_make_the_key(tmp_path: Path) -> None:
    kept = Kept(Store(tmp_path), "evaluate")
    refs = {kept.slot({**RECIPE, "k": k}, {"of": of}, FORM).ref for k in (1, 2) for of in ("a", "b")}
    assert len(refs) == 4 and not kept.uses


def test_all_that_was_looked_for_is_used(tmp_path: Path) -> None:
    kept = Kept(Store(tmp_path), "evaluate")
    slots = [kept.slot(RECIPE, {"of": of}, FORM) for of in "ab"]
    slots[0].keep(VALUE)
    slots[1].find()
    assert kept.uses == tuple(sorted(str(one.ref) for one in slots))


def test_a_damaged_file_is_named_with_the_stage_that_makes_it_again(tmp_path: Path) -> None:
    one = slot(tmp_path)
    one.keep(VALUE)
    (one.folder / "figures.json").write_bytes(b'[{"share": ')
    with pytest.raises(CorruptItem, match=r"(?s)figures\.json: .*delete .*, then dvc repro -s -f evaluate"):
        slot(tmp_path).find()
