"""The whole of params.yaml: every section there is, and the check that a mistake in any of them is named.

Imported by `load.py`, which takes nothing from it, and by what speaks of all sections (the page, tests, bench).
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Hashable, Mapping, Sequence

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipeline.base.errors import ParamsError
from pipeline.params.benchmark import BenchmarkParams
from pipeline.params.evaluate import EvaluateParams
from pipeline.params.report import ReportParams
from pipeline.params.site import SiteParams
from pipeline.params.slides import SlidesParams
from pipeline.params.student import StudentParams
from pipeline.params.tiles import TilesParams
from pipeline.params.tokens import TokensParams

RENAMED = {
    "student.checkpoint_every": "checkpoints go by time, not by steps: student.checkpoint_minutes, or leave it out",
}
"""What to write for keys that earlier versions had."""

WANTED = {
    "tuple_type": "should be a list, as [a, b]",
    **dict.fromkeys(("model_type", "dict_type"), "should be keys and values, as {key: value}"),
}
"""What is wanted, in the words of YAML, by pydantic's kind of mistake."""


class WholeParams(SiteParams):
    """The sections of the stages, in their order, beside those of the site."""

    slides: SlidesParams = SlidesParams()
    tiles: TilesParams = TilesParams()
    tokens: TokensParams = TokensParams()
    student: StudentParams = StudentParams()
    evaluate: EvaluateParams = EvaluateParams()
    benchmark: BenchmarkParams = BenchmarkParams()
    report: ReportParams = ReportParams()


def check_params(found: Mapping[Hashable, object], where: str) -> None:
    """Raise `ParamsError` for the first mistake in {section: its keys}, with the nearest known key."""
    try:
        WholeParams.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = WANTED.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise ParamsError(
            f"unknown key {key!r}" if first["type"] == "extra_forbidden" else f"{key}: {said}",
            where=where,
            fix=_advice(first["type"], first["loc"], first.get("input")),
        ) from None


def is_section(names: Sequence[str]) -> bool:
    """Whether these keys, one within another, lead to a section, and not to one parameter."""
    model: object = WholeParams
    for name in names:
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or name not in model.model_fields:
            return False
        model = model.model_fields[name].annotation
    return isinstance(model, type) and issubclass(model, BaseModel)


def _advice(kind: str, loc: tuple[int | str, ...], got: object) -> str:
    """The nearest known key for a misspelt one, else what was found."""
    if kind == "value_error":
        return "docs/parameters.md says what each key is for"
    if kind == "tuple_type" and isinstance(got, bool | int | float | str):
        return f"found {got!r}; write [{got}]"
    if kind in WANTED and got is None:
        return "leave the key out for its default"
    if kind != "extra_forbidden":
        return f"found {got!r}; docs/parameters.md lists what is allowed"
    if (renamed := RENAMED.get(".".join(map(str, loc)))) is not None:
        return renamed
    model: object = WholeParams
    for part in loc[:-1]:
        # A number is a place in a list of sections: tuple[Section, ...].
        model = typing.get_args(model)[0] if isinstance(part, int) else _fields(model)[part].annotation
    known = sorted(_fields(model))
    near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(known)}"


def _fields(model: object) -> dict[str, FieldInfo]:
    """Of a section."""
    assert isinstance(model, type) and issubclass(model, BaseModel)
    return model.model_fields
