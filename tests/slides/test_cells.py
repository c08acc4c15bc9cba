"""Tables as R, pandas and spreadsheets write them: no value is no value, one number is one class and one patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.slides.cells import class_of, one_spelling, present, without_index
from pipeline.slides.table import parse_table

R_TABLE = """"path","slide_id","mpp","label","split","patient"
"a.svs","s0",NA,"a","train",NA
"b.svs","s1",0.5,NA,NA,"7"
"c.svs","s2",NaN,"None","test",nan
"""


@pytest.mark.parametrize("text", ["NA", "nan", "NaN", "None", "null", "<NA>", "n/a", "#N/A", "", "  ", "\u200b", None])
def test_what_means_no_value_is_none(text: str | None) -> None:
    assert present(text) is None and class_of(text or "") is None


ONES = [1, 1.0, True, "1", "1.0", " 1.00 ", b"1", np.float32(1).item(), np.int64(1).item(), "1e+00", "TRUE", "+1"]


@pytest.mark.parametrize("value", ONES)
def test_one_number_is_one_class(value: object) -> None:
    assert class_of(value) == "1"


def test_what_is_no_whole_number_stays_as_it_is() -> None:
    assert [class_of(v) for v in (0.5, "0.5", "007", "1.0.0", "grade 1.0", float("nan"))] == [
        "0.5", "0.5", "007", "1.0.0", "grade 1.0", None,
    ]  # fmt: skip


def test_a_class_may_be_called_what_else_means_none() -> None:
    assert class_of("None", missing=()) == "None" and class_of("", missing=()) is None


@pytest.mark.parametrize("text", ["-", "\u2013", "?", ".", "n.a.", "NaT", "missing", "Unknown", "#DIV/0!"])
def test_what_people_write_for_nothing_is_no_patient_and_is_said_where_it_is_a_class(text: str) -> None:
    table = parse_table(f"path,mpp,split,patient,label\na.svs,{text},{text},{text},{text}\n", Path("slides.csv"))
    row = table.rows[0]
    assert (row.mpp, row.split, row.patient, row.label) == (None, None, None, text)
    assert any("slides.missing" in line for line in table.remarks)


def test_names_that_look_alike_are_said_and_those_that_look_the_same_are_one() -> None:
    text = "path,patient,label\n1.svs,P1,caf\u00e9\n2.svs,p1,cafe\u0301\n3.svs,100000,Tumor\n4.svs,1e+05,tumor\n"
    table = parse_table(text + "5.svs,00012345678901234567,1\n6.svs,12345678901234567,01\n", Path("slides.csv"))
    assert [row.patient for row in table.rows] == ["P1", "p1", "100000", "100000", *["00012345678901234567"] * 2]
    assert table.rows[0].label == table.rows[1].label
    said = " ".join(table.remarks)
    assert all(pair in said for pair in ("'P1', 'p1'", "'Tumor', 'tumor'", "'01', '1'"))


def test_patients_of_one_number_are_one_and_that_is_said() -> None:
    names, said = one_spelling(["003", "3", None, "3.0", "a", "A"])
    assert names == ["003", "003", None, "003", "a", "A"]
    assert len(said) == 2 and "'003', '3', '3.0'" in said[0] and "'a', 'A' are looked at as two" in said[1]


def test_of_many_such_names_a_few_are_said() -> None:
    names, said = one_spelling([f"{zeros}{n}" for zeros in ("", "0") for n in range(1, 41)])
    assert len(set(names)) == 40 and len(said) < 10 and "35 more" in said[-1]


def test_a_table_as_r_writes_it(tmp_path: Path) -> None:
    rows = parse_table(R_TABLE, tmp_path / "slides.csv").rows
    assert [(r.mpp, r.label, r.split, r.patient) for r in rows] == [
        (None, "a", "train", None), (0.5, None, None, "7"), (None, None, "test", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        ",path,split\n0,a.svs,train\n1,b.svs,test\n",
        "Unnamed: 0,path,split\n0,a.svs,train\n1,b.svs,test\n",
        '"","path","split"\n"1","a.svs","train"\n"2","b.svs","test"\n',
        '"path","split"\n"1","a.svs","train"\n"2","b.svs","test"\n',
        '"path","split"\n"3","a.svs","train"\n"17","b.svs","test"\n',
        '"path" "split"\n"3" "a.svs" "train"\n"17" "b.svs" "test"\n',
        "path|split\na.svs|train\nb.svs|test\n",
        "sep=;\npath;split\na.svs;train\nb.svs;test\n",
        "index,path,split\n0,a.svs,train\n4,b.svs,test\n",
        "X,path,split,Unnamed: 3\n1,a.svs,train,\n2,b.svs,test,\n",
    ],
)
def test_row_numbers_of_pandas_and_r_are_no_column(text: str, tmp_path: Path) -> None:
    rows = parse_table(text, tmp_path / "slides.csv").rows
    assert [(row.path, row.split) for row in rows] == [("a.svs", "train"), ("b.svs", "test")]


def test_a_cell_too_many_is_no_index() -> None:
    rows = [["path", "label"], ["a,b", "x", "y"]]
    assert without_index(rows) == rows


def test_rows_without_ids_are_numbered_and_copied_lines_refused(tmp_path: Path) -> None:
    table = parse_table("path,slide_id\na b.svs,\na_b.svs,\n切片.svs,\n組織.svs,\na b.svs,\nx.svs,a_b-2\n", tmp_path)
    assert [row.slide_id for row in table.rows] == ["a_b", "a_b-3", "__", "__-2", "a_b-2"]
    assert len(table.remarks) == 2 and [refusal.reason for refusal in table.refused] == ["line 2 has the same path"]
