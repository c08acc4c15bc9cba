"""The project's imports as the code states them: what the layering and the DVC tests reason about."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("stages", "pipeline", "kernels")


@cache
def modules() -> dict[str, Path]:
    """Every module of ours: dotted name -> file."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names that a file imports anywhere in it, lazily or not; `from a import b` counts as both a and a.b."""
    names, todo = set[str](), list[ast.AST]([ast.parse(path.read_text(encoding="utf-8"))])
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(str(node.module))
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        # An import is a statement: what expressions hold, most of a tree, is passed over.
        for within in ("body", "orelse", "finalbody", "handlers", "cases"):
            todo += getattr(node, within, [])
    return frozenset(names)


@cache
def ours(path: Path) -> frozenset[str]:
    """The modules of ours that a file imports, packages on the way included."""
    known = modules()
    direct = {name for name in imported(path) if name in known}
    return frozenset(direct | {package for name in direct for package in _parents(name) if package in known})


def closure(module: str, without: str = "") -> set[str]:
    """A module and all of ours that it imports, directly or not; `without` is left out, and what it alone imports."""
    known, seen, todo = modules(), set(), [module, *_parents(module)]
    while todo:
        name = todo.pop()
        if name in known and name not in seen and name != without:
            seen.add(name)
            todo.extend(ours(known[name]))
    return seen


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]
