"""YAML as its version 1.2 has it, by which DVC too reads params.yaml: `1e-5` is a number, and `off` is a word.

PyYAML follows YAML 1.1, where `1e-5` is text (it wants a dot) and `off` is false. Here a plain `on`, `off`, `yes` or
`no` is a `Word`: text where a key takes text, and true or false where it takes that.
"""

from __future__ import annotations

import re
from collections.abc import Hashable

import yaml

from pipeline.base.types import Json

_TRUTH = {"on": True, "yes": True, "off": False, "no": False}
_STR = "tag:yaml.org,2002:str"
_PLAIN = (
    # YAML 1.2.2, 10.3.2, and the `_` between digits that DVC's reader takes too.
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?(0o[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|[0-9][0-9_]*)", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
)


class Word(str):
    """A plain `on`, `off`, `yes` or `no`, as it is written."""

    __slots__ = ()

    @property
    def truth(self) -> bool:
        """What YAML 1.1 takes it for."""
        return _TRUTH[self.lower()]


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would take the last without a word."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        """Each node with all that is in it (`deep`), so that one that holds itself is refused.

        What PyYAML's makers of a tagged value raise (`!!int abc`) is an error of that place.
        """
        try:
            return super().construct_object(node, deep=True)
        except (ValueError, KeyError, AttributeError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(problem=f"{node.value!r} is no {kind}", problem_mark=node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads as the same."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


def parse(text: str) -> Json:
    """What a YAML document holds. Raises `yaml.YAMLError`, also for a key that is given twice."""
    found: Json = yaml.load(text, _Loader)
    return found


def dump(value: object) -> str:
    """The YAML document that `parse` reads as `value`, keys in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


def plain(value: object) -> object:
    """The value with every `Word` in it as true or false: what a call's argument is, of which no type is known."""
    if isinstance(value, Word):
        return value.truth
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = str(node.value)
    return Word(text) if node.style is None and text.lower() in _TRUTH else text


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(node.value).replace("_", "")
    prefixed = re.match(r"[-+]?0[ox]", text)
    return int(text, 0 if prefixed else 10)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = str(node.value).replace("_", "").lower()
    return float(re.sub(r"\.(inf|nan)", r"\1", text))


def _quoted(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "'" if not isinstance(text, Word) and text.lower() in _TRUTH else None
    return dumper.represent_scalar(_STR, str(text), style)


for _tag, _pattern, _first in _PLAIN:
    for _each in (_Loader, _Dumper):
        _each.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor(_STR, _text)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
for _kind in (str, Word):
    _Dumper.add_representer(_kind, _quoted)
