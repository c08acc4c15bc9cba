"""params.yaml as frozen typed models: one section a stage, plus `store` and `cluster` for the site.

Defaults live here and nowhere else; params.yaml repeats those a user is likely to change, with a comment each. An
unknown key is refused with the nearest known one. Sections named after stages are what DVC watches; `store` and
`cluster` say where and with what to compute, never what, so no stage depends on them.
"""

from __future__ import annotations

import difflib
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.base.errors import ParamsError
from pipeline.params.base import Frozen
from pipeline.params.benchmark import BenchmarkParams
from pipeline.params.evaluate import EvaluateParams
from pipeline.params.report import ReportParams
from pipeline.params.site import ClusterParams, StoreParams
from pipeline.params.slides import SlidesParams
from pipeline.params.student import StudentParams
from pipeline.params.tiles import TilesParams
from pipeline.params.tokens import TokensParams


class Params(Frozen):
    """The whole of params.yaml."""

    slides: SlidesParams = SlidesParams()
    tiles: TilesParams = TilesParams()
    tokens: TokensParams = TokensParams()
    student: StudentParams = StudentParams()
    evaluate: EvaluateParams = EvaluateParams()
    benchmark: BenchmarkParams = BenchmarkParams()
    report: ReportParams = ReportParams()
    store: StoreParams = StoreParams()
    cluster: ClusterParams = ClusterParams()


SITE_SECTIONS = ("store", "cluster")
STAGES = tuple(name for name in Params.model_fields if name not in SITE_SECTIONS)


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and check params.yaml.

    Raises `ParamsError` with the file, the key and the nearest known key where one is misspelt.
    """
    path = Path(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ParamsError("file not found", where=str(path), fix="run from the project's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        tab = "'\\t'" in str(error)
        fix = "indent with spaces: YAML takes no tabs" if tab else "mend the line it names, or the one above"
        raise ParamsError(f"not valid YAML: {error}", where=str(path), fix=fix) from None
    if raw is not None and not isinstance(raw, dict):
        raise ParamsError("the top level is not a mapping of sections", where=str(path), fix=f"sections: {STAGES}")
    try:
        # A section whose lines are all commented out is null, and means its defaults.
        return Params.model_validate({name: {} if keys is None else keys for name, keys in (raw or {}).items()})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise ParamsError(
            f"unknown key {where!r}" if first["type"] == "extra_forbidden" else f"{where}: {said}",
            where=str(path),
            fix=_advice(first["type"], first["loc"], first.get("input")),
        ) from None


def _advice(kind: str, loc: tuple[int | str, ...], got: object) -> str:
    """The nearest known key for a misspelt one, else what was found."""
    if kind == "value_error":
        return "docs/parameters.md says what each key is for"
    if kind != "extra_forbidden":
        return f"found {got!r}; docs/parameters.md lists what is allowed"
    model: Any = Params
    for part in loc[:-1]:
        # A number is a place in a list of sections: tuple[Section, ...].
        model = typing.get_args(model)[0] if isinstance(part, int) else model.model_fields[part].annotation
    known = sorted(model.model_fields)
    near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(known)}"
