"""params.yaml is read by YAML 1.2: numbers are numbers, and the words of YAML 1.1 mean what the key takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.base.errors import ParamsError
from pipeline.params import text
from pipeline.params.load import load_params
from pipeline.params.whole import WholeParams

WORDS = ("on", "off", "yes", "no")


def check(tmp_path: Path, written: str) -> WholeParams:
    (tmp_path / "params.yaml").write_text(written)
    return load_params(WholeParams, tmp_path / "params.yaml")


def literals(model: type[BaseModel], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str]]:
    """(path, word) of every key that takes one of the words as it is written."""
    found = []
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found += literals(annotation, (*path, name))
        elif get_origin(annotation) is Literal:
            found += [((*path, name), word) for word in get_args(annotation) if word in WORDS]
    return found


def test_every_word_that_a_key_takes_can_be_written_without_quotes(tmp_path: Path) -> None:
    keys = literals(WholeParams)
    assert (("student", "compile"), "off") in keys
    for path, word in keys:
        found: Any = check(tmp_path, f"{path[0]}: {{{path[1]}: {word}}}")
        for name in path:
            found = getattr(found, name)
        assert found == word


@pytest.mark.parametrize(("word", "truth"), [("on", True), ("yes", True), ("off", False), ("no", False)])
def test_a_word_is_a_truth_where_a_key_takes_one(tmp_path: Path, word: str, truth: bool) -> None:
    found = check(tmp_path, f"tiles: {{tissue: {{fat: {word}}}}}\ntokens: {{model_kwargs: {{a: {word}, b: [{word}]}}}}")
    assert found.tiles.tissue.fat is truth
    assert found.tokens.model_kwargs == {"a": truth, "b": [truth]}


def test_a_quoted_word_is_text_for_a_call_too(tmp_path: Path) -> None:
    assert check(tmp_path, "student: {model_kwargs: {pool: 'off'}}").student.model_kwargs == {"pool": "off"}


@pytest.mark.parametrize("written", ["1e-5", "1E-5", ".1e-4", "+1e-5", "1e-05", "0.1e-4", "10_0e-7"])
def test_a_number_in_any_notation_is_a_number_everywhere(tmp_path: Path, written: str) -> None:
    params = check(
        tmp_path, f"student: {{lr: {written}, model_kwargs: {{init_values: {written}, inner: {{x: {written}}}}}}}"
    )
    assert params.student.lr == pytest.approx(1e-5)
    found = params.student.model_kwargs
    assert isinstance(found["init_values"], float) and found["init_values"] == pytest.approx(1e-5)
    assert isinstance(found["inner"]["x"], float)


@pytest.mark.parametrize("title", ["2026-11-29", "12:30", "off", "1e", "e5", "-"])
def test_what_is_no_number_stays_text(tmp_path: Path, title: str) -> None:
    assert check(tmp_path, f"report: {{title: {title}}}").report.title == title


@pytest.mark.parametrize("section", ["tokens", "student"])
@pytest.mark.parametrize("value", [".nan", "[.inf]"])
def test_a_number_that_no_recipe_holds_is_refused_with_its_key(tmp_path: Path, section: str, value: str) -> None:
    with pytest.raises(ParamsError, match=rf"{section}.model_kwargs: mlp_ratio is (nan|inf)"):
        check(tmp_path, f"{section}: {{model_kwargs: {{mlp_ratio: {value}}}}}")


def test_a_key_given_twice_is_refused_in_any_document() -> None:
    with pytest.raises(yaml.MarkedYAMLError, match="'a' is given twice"):
        text.parse("a: 1\na: 2")


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
plain |= st.sampled_from([*WORDS, "Off", "1e-5", "null", "~", "", "0x1F", "010"])
plain |= st.sampled_from(WORDS).map(text.Word)


@given(st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)))
def test_what_is_dumped_is_parsed_as_the_same(value: Any) -> None:
    back = text.parse(text.dump(value))
    assert back == value and text.plain(back) == text.plain(value)


@pytest.mark.parametrize("told", ["mean: [0.5, 0.5, 0.5]", "interpolation: bilinear", "weights: w.pt"])
def test_the_demo_teacher_takes_no_one_elses_preprocessing(tmp_path: Path, told: str) -> None:
    with pytest.raises(ParamsError, match=told.split(":")[0]):
        check(tmp_path, f"tokens: {{{told}}}")


@pytest.mark.parametrize("told", ["mean: [124, 116, 104]", "std: [0, 0.2, 0.2]", "mean: [0.5]", "interpolation: cubic"])
def test_colours_and_filters_that_cannot_be_are_refused(tmp_path: Path, told: str) -> None:
    with pytest.raises(ParamsError, match=f"tokens.{told.split(':')[0]}"):
        check(tmp_path, f"tokens: {{teacher: uni, {told}}}")
