"""Whether two finished runs of the same settings came to the same bytes: what shows that a move changed nothing.

Compared are, of two project folders after `dvc repro`:

- recipe keys: the folders `kind/recipe key` of the store, and each recipe.json field by field;
- store items: which there are, and the sha256 of every file in them;
- manifests: artifacts/*.json, field by field; of the benchmark's all but its summary, which is a measurement;
- metrics: metrics/*.json, but times, speeds, memory and energy;
- files: models/, plots/ (not the two of speed), the slides' pictures, and extra/ where there is one, byte by byte;
- text: reports/*.html and the model card line by line, see page_text.py for what is left out.

Where a form has changed on purpose, the command line says so and the rest stays exact: `--rename` gives old fields
their new paths, `--values` compares a file as the set of its values wherever they stand in it, and `--allow` takes a
printed difference as intended. Not covered: logs and dvc.lock; and inputs that no recipe names.

Run: python -m bench.same_bytes OLD NEW [--allow GLOB] [--rename REGEX=PATH] [--values GLOB]; the last line is one JSON
object with `same`; the exit status is 1 where they differ.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.finished_run import MEASURED, PARTS, STORE, Fields
from bench.printing import finish, show

ABSENT = "(absent)"
WIDTH = 300
"""Characters of a difference that are printed."""


@dataclass(frozen=True)
class Intended:
    """What the command line says has changed on purpose."""

    allow: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    values: tuple[str, ...] = ()

    def allows(self, difference: str) -> bool:
        """Whether a difference, as it is printed, is intended."""
        return any(fnmatchcase(difference, pattern) for pattern in self.allow)

    def renamed(self, old: Fields) -> Fields:
        """The old fields at their new paths."""
        return {self._new_path(path): value for path, value in old.items()}

    def placeless(self, fields: Fields) -> Fields:
        """The fields, those of a file of `values` by their value in place of their path in it."""
        placed: Fields = {}
        for path, value in fields.items():
            file, inside, _ = path.partition(".json/")
            apart = inside and any(fnmatchcase(f"{file}.json", pattern) for pattern in self.values)
            placed[f"{file}.json has {_told(value)}" if apart else path] = value
        return placed

    def _new_path(self, path: str) -> str:
        for pattern, replacement in self.rename:
            path = re.sub(pattern, replacement, path)
        return path


@dataclass
class Compared:
    """One part of two runs: how many values were compared and left out as measured, and differences as printed."""

    compared: int = 0
    left_out: int = 0
    differences: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)


def compare(old: Fields, new: Fields, intended: Intended) -> Compared:
    """Compare the values of two runs by their paths; of what one of them lacks as a whole, the whole alone is told."""
    found = Compared()
    left_out = {path for path in old.keys() | new.keys() if MEASURED.fullmatch(path)}
    before, after = ({path: side[path] for path in side.keys() - left_out} for side in (old, new))
    before, after = intended.placeless(intended.renamed(before)), intended.placeless(after)
    found.left_out = len(left_out)
    lacking = ""
    for path in sorted(before.keys() | after.keys(), key=lambda path: path.split("/")):
        ours, theirs = before.get(path, ABSENT), after.get(path, ABSENT)
        found.compared += max(len(side) if isinstance(side, tuple) else 1 for side in (ours, theirs))
        if (lacking and path.startswith(f"{lacking}/")) or (ours == theirs and type(ours) is type(theirs)):
            continue
        if ABSENT in (ours, theirs):
            lacking = path
        for text in _differences(path, ours, theirs):
            (found.allowed if intended.allows(text) else found.differences).append(text)
    return found


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if not (isinstance(old, tuple) and isinstance(new, tuple)):
        yield f"{path}: {_told(old)} -> {_told(new)}"
        return
    for kind, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            for ours, theirs in itertools.zip_longest(old[i:j], new[k:m], fillvalue=ABSENT):
                yield f"{path}: {ours} -> {theirs}"


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def tell(parts: dict[str, Compared], most: int) -> None:
    """Print the counts as a table, then up to `most` differences of each part."""
    columns = ("part", "compared", "differ", "allowed", "measured, left out")
    show("Old and new", columns, [(name, *_counts(part).values()) for name, part in parts.items()])
    for name, part in parts.items():
        for text in part.differences[:most]:
            print(f"{name}  {text if len(text) <= WIDTH else text[:WIDTH] + ' …'}")
        if len(part.differences) > most:
            print(f"{name}  and {len(part.differences) - most} more")


def _counts(part: Compared) -> dict[str, int]:
    differ, allowed = len(part.differences), len(part.allowed)
    return {"compared": part.compared, "differ": differ, "allowed": allowed, "left_out": part.left_out}


def main(
    old: Annotated[Path, typer.Argument(help="Project folder of the run before.")],
    new: Annotated[Path, typer.Argument(help="Project folder of the run after.")],
    allow: Annotated[list[str] | None, typer.Option(help="Glob of differences, as printed, that are intended.")] = None,
    rename: Annotated[list[str] | None, typer.Option(help="REGEX=PATH: old fields, and where they stand now.")] = None,
    values: Annotated[list[str] | None, typer.Option(help="Glob of files compared as the set of their values.")] = None,
    most: Annotated[int, typer.Option(help="Differences printed of each part.")] = 40,
) -> None:
    """Compare two finished runs; exit status 1 where they differ."""
    for root in (old, new):
        if not (root / "artifacts/report.json").is_file() or not (root / STORE).is_dir():
            raise typer.BadParameter(f"{root} holds no finished run: dvc repro there first, with HISTILL_STORE unset")
    paths = tuple((pattern, path) for pattern, _, path in (text.partition("=") for text in rename or ()))
    intended = Intended(tuple(allow or ()), paths, tuple(values or ()))
    parts = {name: compare(read(old), read(new), intended) for name, read in PARTS.items()}
    tell(parts, most)
    same = not any(part.differences for part in parts.values())
    finish({"same": same, "parts": {name: _counts(part) for name, part in parts.items()}})
    raise typer.Exit(0 if same else 1)


if __name__ == "__main__":
    typer.run(main)
