"""Options that several commands share, each group a dataclass: its fields are the options, its defaults theirs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, ParamSpec, get_type_hints

import typer

P = ParamSpec("P")


class Engine(StrEnum):
    """What runs the network."""

    AUTO = "auto"
    EAGER = "eager"
    COMPILE = "compile"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"


@dataclass(frozen=True)
class Embedding:
    """What embeds slides, and at what scale: `embed.slides.Wanted` has these under the same names."""

    student: Annotated[Path, typer.Option(help="An exported student.")] = Path("models/student")
    teacher: Annotated[str | None, typer.Option(help="A teacher in its place; `histill teachers` lists them.")] = None
    engine: Annotated[Engine, typer.Option(help="What runs it; auto measures what is installed.")] = Engine.AUTO
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; a GPU where there is one.")] = None
    target_mpp: Annotated[float | None, typer.Option(help="um a pixel of the tiles; as params.yaml, else 0.5.")] = None
    tile_px: Annotated[int | None, typer.Option(help="Side of a tile; as params.yaml, else 224.")] = None


@dataclass(frozen=True)
class Items:
    """Which items of the store a command is about."""

    kind: Annotated[str, typer.Option(help="Only this kind: tiles, tokens, figures, …")] = ""
    recipe: Annotated[str, typer.Option(help="Only recipes whose key begins so.")] = ""
    slide: Annotated[str, typer.Option(help="Only this slide's tiles and tokens, by its id.")] = ""
    experiment: Annotated[
        str | None, typer.Option("--experiment", help="What this branch, tag or experiment names, not the workspace.")
    ] = None
    everything: Annotated[bool, typer.Option("--all", help="Whatever is there, named or not.")] = False


def grouped(command: Callable[P, None]) -> Callable[..., None]:
    """The command as typer takes it: the fields of a parameter that is such a group in the parameter's place."""
    groups, spread = {}, list[Parameter]()
    hints = get_type_hints(command, include_extras=True)
    for parameter in signature(command).parameters.values():
        kind = hints[parameter.name]
        if not is_dataclass(kind):
            spread.append(parameter.replace(annotation=kind, kind=Parameter.KEYWORD_ONLY))
            continue
        assert isinstance(kind, type)
        groups[parameter.name] = kind
        own = get_type_hints(kind, include_extras=True)
        spread += [
            Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=own[field.name])
            for field in fields(kind)
        ]

    @functools.wraps(command)
    def run(*args: P.args, **given: P.kwargs) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(*args, **given)

    run.__signature__ = Signature(spread)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in spread}
    return run
