"""`model_kwargs`, of teachers and of students: timm checks few of them, so what it raises is traced to its argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial

import timm.layers
import torch
from torch import nn

from pipeline.base.errors import first_line

_LAYERS = ("mlp_layer", "act_layer", "norm_layer")
_OURS = {
    "pretrained": "leave it out: a student starts at random, and `tokens.weights` names a teacher's file",
    "checkpoint_path": "leave it out: `tokens.weights` names a teacher's file",
    "device": "leave it out: it runs where there is a GPU, else on the CPU",
    "dtype": "leave it out: `tokens.precision` says it, and students are trained in theirs",
    "features_only": "leave it out: maps of features are asked for where they are needed",
}
_AS_TIMM = "see the arguments of its class in timm"


class BadArgument(Exception):
    """An argument of a network that it does not take: what is wrong, naming it, and what to do."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


def require_possible(kwargs: Mapping[str, object]) -> None:
    """Raise `BadArgument` for an argument that no network can be made of, or that Histill itself gives."""
    for key, value in kwargs.items():
        if key in _OURS:
            raise BadArgument(f"{key} is not yours to set", _OURS[key])
        if isinstance(value, int | float) and value < 0:
            raise BadArgument(f"{key} is {value!r}: no network is made of negative numbers", _AS_TIMM)
        if key == "in_chans" and value != len("RGB"):
            raise BadArgument(f"in_chans is {value!r}", "leave it out: tiles have three colours")
        if key == "depth" and value == 0:
            raise BadArgument("depth is 0: a network without blocks", "leave it out, or give their number")
        if key.endswith("_rate") and isinstance(value, int | float) and value > 1:
            raise BadArgument(f"{key} is {value!r}", "a rate is a share, 0 to 1")


def with_layers(kwargs: Mapping[str, object]) -> dict[str, object]:
    """The arguments with layers' classes for their names. Raises `BadArgument` for a name that no layer has."""
    return {key: _layer(key, value) if key in _LAYERS else value for key, value in kwargs.items()}


def require_types(model: nn.Module, kwargs: Mapping[str, object]) -> None:
    """Raise `BadArgument` for text where the network's class wants true or false, all of which Python takes as true."""
    for key, parameter in inspect.signature(type(model).__init__).parameters.items():
        if parameter.annotation in (bool, "bool") and isinstance(kwargs.get(key), str):
            raise BadArgument(f"{key} is the text {kwargs[key]!r}", "write true or false, without quotes")


def blame(
    build: Callable[[Mapping[str, object]], nn.Module], kwargs: Mapping[str, object], error: Exception
) -> BadArgument | None:
    """Which of the arguments a network fails to build with; None where it fails without any, or not for its arguments.

    `build` makes it again, on torch's meta device, which allocates nothing.
    """
    if not kwargs or not _builds(build, {}) or _builds(build, kwargs):
        return None
    guilty = [key for key in kwargs if _builds(build, {k: v for k, v in kwargs.items() if k != key})]
    shown = ", ".join(f"{key}: {_shown(kwargs[key])}" for key in guilty or kwargs)
    said = first_line(error)
    return BadArgument(f"timm builds nothing with {shown}: {said}", _AS_TIMM)


def _builds(build: Callable[[Mapping[str, object]], nn.Module], kwargs: Mapping[str, object]) -> bool:
    try:
        with torch.device("meta"):
            build(kwargs)
    except Exception:
        # Of any kind: timm checks few arguments.
        return False
    return True


def _shown(value: object) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)


def _layer(key: str, name: object) -> object:
    """A layer's class by its name, timm's before torch's."""
    last = name.rpartition(".")[2] if isinstance(name, str) else ""
    found = getattr(timm.layers, last, None) or getattr(nn, last, None)
    # timm's own SwiGLUPacked is a partial of a class.
    made = found.func if isinstance(found, partial) else found
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
        fix = "take a name of timm.layers or torch.nn, such as SwiGLUPacked or SiLU"
        raise BadArgument(f"{key}: no layer is called {name!r}", fix)
    return found
