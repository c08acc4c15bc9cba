"""docs/parameters.md, written from the models: python -m pipeline.params.page > docs/parameters.md."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
import typing

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipeline.params import SITE_SECTIONS, STAGES
from pipeline.params.whole import WholeParams

INTRO = """# Parameters

One section a stage in `params.yaml`, plus `store` and `cluster` for the site, on which no result depends. What a file
does not say takes the default here. An unknown key is refused with the nearest known one. This page is written from
the models in `pipeline/params/` by `python -m pipeline.params.page`; a test holds the two equal.
"""


def page() -> str:
    """The whole page, Markdown."""
    parts = [INTRO]
    for section in (*STAGES, *SITE_SECTIONS):
        model = WholeParams.model_fields[section].annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)
        parts.append(_section(section, model, 2))
    return "\n".join(parts)


def _section(name: str, model: type[BaseModel], depth: int) -> str:
    lines = [
        f"{'#' * depth} {name}",
        "",
        str(model.__doc__),
        "",
        "| key | default | type | |",
        "| --- | --- | --- | --- |",
    ]
    nested, texts = [], _texts(model)
    for key, field in model.model_fields.items():
        text = " ".join(texts.get(key, "").split())
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            nested.append(_section(f"{name}.{key}", field.annotation, depth + 1))
            lines.append(f"| `{key}` | | section | {text} |")
        elif section := _listed(field.annotation):
            nested.append(_section(f"{name}.{key}[]", section, depth + 1))
            lines.append(f"| `{key}` | `{_default(field.default)}` | list of sections | {text} |")
        else:
            lines.append(f"| `{key}` | `{_default(field.default)}` | {_type(field)} | {text} |")
    return "\n".join([*lines, "", *nested])


def _texts(model: type[BaseModel]) -> dict[str, str]:
    """What stands under each field, in the model or the one that it takes the field from."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__[: model.__mro__.index(BaseModel)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        assert isinstance(body, ast.ClassDef)
        for field, under in itertools.pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match under:
                    case ast.Expr(ast.Constant(str(text))):
                        found[field.target.id] = text
    return found


def _listed(annotation: object) -> type[BaseModel] | None:
    """The section of which the field holds a list, or None."""
    first = next(iter(typing.get_args(annotation)), None)
    return first if isinstance(first, type) and issubclass(first, BaseModel) else None


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "required"
    return "null" if value is None else str(value).replace("(", "[").replace(")", "]")


def _type(field: FieldInfo) -> str:
    """The annotation and its bounds, as a reader would write them."""
    text = getattr(field.annotation, "__name__", "") if isinstance(field.annotation, type) else str(field.annotation)
    text = re.sub(r"typing\.|Annotated\[(\w+), FieldInfo.*?\]\)\]", lambda m: m.group(1) or "", text)
    text = re.sub(r"Optional\[(.*)\]", r"\1 or null", text)
    text = re.sub(r"Literal\[(.*?)\]", lambda m: m.group(1).replace("'", "").replace(", ", " or "), text)
    rules = [str(rule) for rule in field.metadata if not isinstance(rule, BeforeValidator)]
    bounds = ", ".join(re.sub(r"(\w+)\((\w+)=(.*)\)", _bound, rule) for rule in rules)
    return f"{text} {bounds}".strip().replace("|", "or").replace("None", "null")


def _bound(match: re.Match[str]) -> str:
    sign = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}.get(match.group(2), match.group(2))
    return f"{sign} {match.group(3)}"


if __name__ == "__main__":
    print(page(), end="")
