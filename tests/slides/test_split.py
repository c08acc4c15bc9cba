"""Held-out slides: whole patients, stable, never none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import TableError
from pipeline.slides.split import require_train, resolve_splits
from pipeline.slides.table import Row

PATIENTS = st.lists(st.sampled_from([None, "A", "B", "C", "D"]), min_size=1, max_size=12)


def rows(patients: list[str | None], splits: dict[int, str] | None = None) -> list[Row]:
    return [
        Row(i + 2, f"{i}.svs", f"s{i}", patient=patient, split=(splits or {}).get(i))
        for i, patient in enumerate(patients)
    ]


@given(PATIENTS, st.floats(0.01, 1))
def test_a_patient_is_on_one_side_and_both_sides_have_somebody(patients: list[str | None], fraction: float) -> None:
    table = rows(patients)
    split = resolve_splits(table, fraction)
    groups = {row.patient or row.slide_id for row in table}
    sides = {
        group: {split[row.slide_id] for row in table if (row.patient or row.slide_id) == group} for group in groups
    }
    assert all(len(side) == 1 for side in sides.values())
    assert len(groups) < 2 or set(split.values()) == {"train", "test"}


@given(PATIENTS, st.randoms())
def test_the_order_of_rows_does_not_matter(patients: list[str | None], random: object) -> None:
    table = rows(patients)
    shuffled = table.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert resolve_splits(shuffled, 0.2) == resolve_splits(table, 0.2)


def test_the_share_is_about_what_is_asked() -> None:
    split = resolve_splits(rows([None] * 2000), 0.2)
    assert 340 < list(split.values()).count("test") < 460


def test_the_table_wins_and_a_patients_other_slides_follow() -> None:
    split = resolve_splits(rows(["A", "A", "B", "B"], {0: "external", 2: "train"}), 0.9)
    assert split == {"s0": "external", "s1": "external", "s2": "train", "s3": "train"}


def test_a_fraction_of_zero_holds_nobody_out() -> None:
    assert set(resolve_splits(rows([None] * 9), 0.0).values()) == {"train"}


def test_a_patient_in_two_splits_is_an_error() -> None:
    with pytest.raises(TableError, match="same split"):
        resolve_splits(rows(["A", "A"], {0: "train", 1: "test"}), 0.2)


@pytest.mark.parametrize("names", [["test", "val"], ["training", "test"], ["tr", "test"], ["Train_set", "test"],
                                   ["trainval", "test"], ["trian", "test"], ["discovery", "test"]])  # fmt: skip
def test_without_a_train_split_nothing_begins_and_near_names_are_pointed_out(names: list[str]) -> None:
    with pytest.raises(TableError, match="no slide is of the split 'train'") as error:
        require_train([name.lower() for name in names], "slides.csv")
    near = [name.lower() for name in names if name not in ("test", "val")]
    assert all(f"call '{name}' 'train'" in error.value.fix for name in near)
    require_train(["train", "test"], "slides.csv")


@pytest.mark.parametrize("fraction", [0.0, 0.2, 1.0])
def test_a_lone_slide_is_learnt_from(fraction: float) -> None:
    for name in map(str, range(20)):
        assert resolve_splits([Row(2, name, name)], fraction) == {name: "train"}
