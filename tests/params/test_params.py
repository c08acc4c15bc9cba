"""params.yaml: typed, strict, and in step with the stages."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml
from project import ROOT
from pydantic import ValidationError

from pipeline.base.errors import ParamsError
from pipeline.params import SITE_SECTIONS, STAGES
from pipeline.params.load import load_params
from pipeline.params.tokens import AlsoParams, TokensParams
from pipeline.params.whole import WholeParams


def check(tmp_path: Path, text: str) -> WholeParams:
    (tmp_path / "params.yaml").write_text(text)
    return load_params(WholeParams, tmp_path / "params.yaml")


def test_the_shipped_file_is_valid_and_names_every_section() -> None:
    load_params(WholeParams, ROOT / "params.yaml")
    sections = set(yaml.safe_load((ROOT / "params.yaml").read_text()))
    assert sections == {*STAGES, *SITE_SECTIONS}


def test_sections_are_the_stages_of_dvc_and_the_modules_of_stages() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert tuple(stages) == STAGES
    shared = {"__init__", "__main__", "command", "embed", "store"}
    modules = {path.stem for path in (ROOT / "stages").glob("*.py")} - shared
    assert modules == set(STAGES)
    for name in STAGES:
        module = importlib.import_module(f"stages.{name}")
        assert callable(module.run) and callable(module.main)


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert check(tmp_path, "") == WholeParams() == check(tmp_path, "tiles:\n  # tile_px: 128\ntokens:\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiles: {tile_pix: 224}", r"(?s)unknown key 'tiles.tile_pix'.*did you mean 'tile_px'"),
        (
            "student: {checkpoint_every: 50}",
            r"(?s)student.checkpoint_every.*go by time.*checkpoint_minutes",
        ),
        ("tokenz: {}", r"(?s)unknown key 'tokenz'.*did you mean 'tokens'"),
        ("student: {objective: {clss: 1}}", r"(?s)student.objective.clss.*did you mean 'cls'"),
        ("tiles: {tile_px: -3}", r"tiles.tile_px.*greater than or equal to 16"),
        ("tokens: {patch: int7}", r"tokens.patch.*'int8'"),
        ("tokens: {views: 9}", r"tokens.views"),
        ("tokens: {teachers: [uni]}", r"(?s)tokens: teachers: a list of sections with a name each"),
        ("tokens: {teachers: []}", r"teachers: name one or more"),
        ("tokens: {teacher: demo, teachers: [{name: uni}]}", r"its primary one says teacher otherwise"),
        ("tokens: {teachers: [{name: uni, primary: true}, {name: b, primary: true}]}", r"one of them is primary"),
        ("tokens: {teachers: [{name: uni}], also: [{teacher: demo}]}", r"none in `also` beside them"),
        ("tokens: {teacher: uni, also: [{teacher: uni}]}", r"uni is named twice"),
        ("tokens: {also: [{weights: x}]}", r"tokens.also.0.teacher"),
        ("tokens: {teacher: uni, also: [{teacher: demo, std: [1, 1, 1]}]}", r"std is of other teachers"),
        ("tokens: {teachers: [{name: uni, teacher: b}]}", r"no `teacher` beside it"),
        ("student: {objective: null}", r"(?s)objective: should be keys and.*leave the key out"),
        ("student: {nested: 64}", r"(?s)student.nested: should be a list.*write \[64\]"),
        ("student: {epochs: true}", r"student.epochs: true is not what it takes"),
        ("benchmark: {batch_sizes: [1, false]}", r"batch_sizes: false is not what it takes"),
        ("student: {epochs: 99999999999999999999}", r"student.epochs: 9+ is too large"),
        ("evaluate: {seed: -1}", r"evaluate.seed.*greater than or equal to 0"),
        ("tiles: {seed: -1}", r"tiles.seed.*greater than or equal to 0"),
        ("tokens: {augment: {seed: -1}}", r"tokens.augment.seed.*greater than or equal to 0"),
        ("student: {epochs: 0x_}", r"student.epochs.*valid integer"),
        ("student: {epochs: !!int abc}", r"(?s)'abc' is no int.*line 1"),
        ("student: {epochs: !!timestamp abc}", r"'abc' is no timestamp"),
        ("student: {freeze_batch_norm: !!bool maybe}", r"'maybe' is no bool"),
        ("student: {model_kwargs: &a {x: *a}}", r"recursive"),
        ("tiles: [1, 2]", r"tiles: should be keys and values"),
        ("tiles: {also_mpp: 0.4}", r"tiles.also_mpp: should be a list"),
        ("student: {seed: -1}", r"student.seed.*greater than or equal to 0"),
        ("student: {lr: .inf}", r"student.lr.*finite"),
        ("student: {clip_norm: .inf}", r"student.clip_norm.*finite"),
        ("student: {objective: {cls: .inf}}", r"student.objective.cls.*finite"),
        ("- a\n- b", r"mapping of sections"),
        ("tiles: {tile_px: 'a", r"not valid YAML"),
        ("tiles:\n\ttile_px: 224", r"(?s)not valid YAML.*indent with spaces"),
        ("tiles:\n  tile_px: 224\n  tile_px: 256", r"(?s)'tile_px' is given twice.*line 3"),
        ("tiles: {tile_px: 64, overlap_px: 64}", r"(?s)tiles: overlap_px \(64\) must be .*what each key is for"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        check(tmp_path, text)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="project's root"):
        load_params(WholeParams, tmp_path / "params.yaml")


def test_params_cannot_be_changed_after_the_fact() -> None:
    with pytest.raises(ValidationError):
        WholeParams().tiles.tile_px = 7  # type: ignore[misc]


def test_every_key_is_explained_and_the_page_is_in_step() -> None:
    from pipeline.params.page import page

    assert "| |\n" not in page().replace("| key | default | type | |\n", "")
    assert (ROOT / "docs" / "parameters.md").read_text() == page()


def test_teachers_are_named_in_one_list_or_the_first_by_itself() -> None:
    entries = {"input_px": 224, "weights": "b.safetensors"}
    listed = TokensParams.model_validate({"patch": "none", "teachers": [{"name": "uni"}, {"name": "b", **entries}]})
    apart = TokensParams(teacher="uni", patch="none", also=(AlsoParams(teacher="b", **entries),))
    assert listed == apart == TokensParams.model_validate(listed.model_dump())
    assert TokensParams.model_validate({"teachers": [{"name": "uni"}]}) == TokensParams(teacher="uni")
