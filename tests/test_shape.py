"""The shape of functions: few parameters that mean something, and types that say what is handed on."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

from imports import ROOT, modules

MOST_PARAMETERS = 7
MOST_ANY = 5
"""Uses of `Any` a thousand lines; 8 to 18 in the codebases of the field."""
PIPELINE = {name: path for name, path in modules().items() if name.startswith("pipeline.")}


class Shape(NamedTuple):
    """Of a file: (name, number of parameters but `self` and `cls`) of each function, uses of `Any`, lines."""

    functions: list[tuple[str, int]]
    uses_of_any: int
    lines: int


@cache
def shape(path: Path) -> Shape:
    text, functions, uses = path.read_text(encoding="utf-8"), list[tuple[str, int]](), 0
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            functions.append((node.name, sum(argument.arg not in ("self", "cls") for argument in given)))
        uses += isinstance(node, ast.Name) and node.id == "Any"
    return Shape(functions, uses, text.count("\n"))


def test_no_function_takes_more_than_a_reader_can_hold() -> None:
    long = {
        f"{module}.{name}": n
        for module, path in PIPELINE.items()
        for name, n in shape(path).functions
        if n > MOST_PARAMETERS
    }
    assert not long, "what always travels together is one object with a name"


def test_any_is_rare() -> None:
    shapes = [shape(path) for path in PIPELINE.values()]
    assert 1000 * sum(each.uses_of_any for each in shapes) < MOST_ANY * sum(each.lines for each in shapes)


def test_the_count_sees_what_it_counts(tmp_path: Path) -> None:
    source = (
        "def f(a, /, b, *, c): ...\nclass K:\n    async def g(self, a): ...\n    @classmethod\n    def h(cls): ...\n"
    )
    (tmp_path / "a.py").write_text(source + "x: Any = Any\n")
    assert shape(tmp_path / "a.py") == ([("f", 3), ("g", 1), ("h", 0)], 2, 6)
    assert len(PIPELINE) > 100 and all(path.is_relative_to(ROOT) for path in PIPELINE.values())


def test_no_two_files_of_tests_have_one_name() -> None:
    """Pytest imports them by it, and the second is an error wherever both come to one process."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name not in ("__init__.py", "conftest.py")]
    assert not {name for name in names if names.count(name) > 1}
