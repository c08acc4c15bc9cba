"""The slide table: what is written reads back, and each mistake is refused where it is."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import TableError
from pipeline.base.store import Ref
from pipeline.slides.cells import class_of, one_spelling, present
from pipeline.slides.ids import default_id
from pipeline.slides.table import Row, format_table, read_table

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20)
CELL = TEXT.map(str.strip).filter(bool)
VALUE = CELL.filter(lambda text: present(text) == class_of(text) == text)
"""What is a value in every column, and written as it is read."""
IDS = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True)
ROWS = st.builds(
    Row,
    line=st.just(0),
    path=CELL,
    slide_id=IDS,
    mpp=st.none() | st.floats(0.05, 10),
    label=st.none() | VALUE,
    split=st.none() | VALUE.map(str.lower),
    patient=st.none() | VALUE,
)


def read(text: str, encoding: str = "utf-8") -> tuple[list[Row], dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "slides.csv")
        path.write_text(text, encoding=encoding)
        table = read_table(path)
    return table.rows, {refusal.id: f"{refusal.reason} -> {refusal.fix}" for refusal in table.refused}


@given(st.lists(ROWS, min_size=1, max_size=6, unique_by=lambda row: row.slide_id))
def test_a_written_table_reads_back(rows: list[Row]) -> None:
    found, refused = read(format_table(rows))
    assert not refused
    patients, _ = one_spelling([row.patient for row in rows])
    expected = [replace(row, patient=patient) for row, patient in zip(rows, patients, strict=True)]
    assert [replace(row, line=0) for row in found] == expected


@given(TEXT)
def test_a_default_id_is_empty_or_safe_in_the_store(path: str) -> None:
    slide_id = default_id(path)
    assert not slide_id or Ref("tiles", "recipe", slide_id)


def test_comments_blank_lines_bom_and_case_are_read_and_lines_counted() -> None:
    rows, refused = read("PATH, Split\n# a comment, with commas\n\na/Slide 1.svs, Test\n", "utf-8-sig")
    assert rows == [Row(4, "a/Slide 1.svs", "Slide_1", split="test")] and not refused


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_spreadsheets_own_way_of_writing_is_read(mark: str) -> None:
    cells = [["path", "mpp", "label", "", ""], ["a,b.svs", "0,25", "x", "", ""], ["c.svs", "", "", "", ""]]
    rows, refused = read("\r\n".join(mark.join(line) for line in cells))
    assert [(row.path, row.mpp, row.label) for row in rows] == [("a,b.svs", 0.25, "x"), ("c.svs", None, None)]
    assert not refused


def test_demo_rows_have_a_number() -> None:
    rows, _ = read("path\ndemo:12\ndemo:0\nx/demo:1\n")
    assert [(row.demo, row.slide_id) for row in rows] == [(12, "demo-12"), (None, "demo_0"), (None, "demo_1")]


@pytest.mark.parametrize(
    ("line", "slide_id", "reason"),
    [
        ("b.svs,one", "one", "line 2 has it too"),
        ("b.svs,../../out", "../../out", "leave the store"),
        ("b.svs,.hidden", ".hidden", "leave the store"),
        (f"b.svs,{'x' * 129}", "x" * 129, "leave the store"),
        ("b.svs,two,20x", "two", "mpp '20x' is not a number"),
        ("b.svs,two,40", "two", "mpp 40 is nonsense"),
        ("b.svs,two,inf", "two", "mpp inf is nonsense"),
        ("b.svs,two,0.5,extra", "line-3", "4 cells"),
        (",two,0.5", "two", "no path"),
        ("..,,", "line-3", "leave the store"),
        ("a.svs,one", "one", "line 2 has it too"),
    ],
)
def test_one_bad_row_is_refused_and_the_others_kept(line: str, slide_id: str, reason: str) -> None:
    rows, refused = read(f"path,slide_id,mpp\na.svs,one,0.5\n{line}\nc.svs,three,0.25\n")
    assert [row.slide_id for row in rows] == ["one", "three"]
    assert reason in refused[slide_id] and refused[slide_id].split("-> ")[1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("path,pateint\na.svs,1\n", "did you mean 'patient'"),
        ("path,stain\na.svs,HE\n", "leave it out"),
        ("slide_id\none\n", "path"),
        ("path,path\na,b\n", "at most once"),
        ("path\n", "no slide"),
        ("", "no slide"),
        ('path\n"a.svs\n', "not valid CSV"),
        ("path\na\0b\n", "not a text file"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(text: str, reason: str) -> None:
    with pytest.raises(TableError, match=reason):
        read(text)


def test_a_missing_table_and_a_binary_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="histill scan"):
        read_table(tmp_path / "slides.csv")
    (tmp_path / "slides.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(TableError, match="UTF-8"):
        read_table(tmp_path / "slides.xls")
    with pytest.raises(TableError, match=r"cannot be read: Not a directory"):
        read_table(tmp_path / "slides.xls" / "slides.csv")


def test_rare_columns_are_written_only_where_used(tmp_path: Path) -> None:
    plain, masked = Row(2, "a.svs", "a"), Row(3, "b.svs", "b", mask="m.geojson", coords="b.h5")
    assert format_table([plain]).splitlines()[0] == "path,slide_id,mpp,label,split,patient"
    text = format_table([plain, masked])
    assert text.splitlines()[0].endswith(",mask,coords")
    (tmp_path / "t.csv").write_text(text)
    table = read_table(tmp_path / "t.csv")
    assert table.rows == [plain, masked] and not table.refused
