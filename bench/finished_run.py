"""What a finished run left in its project folder, as values by path: what two runs are compared by.

A JSON field's path goes on where its file's ends, `artifacts/tokens.json/items/demo-1/n`; entries of a list that have
an `id` go by it. A file is its sha256. A recipe and an item of the store are there (`THERE`) besides what is in them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.page_text import page_lines, text_lines

MEASURED = re.compile(
    r"artifacts/benchmark\.json/summary(/.*)?|metrics/.*(_s|seconds|_ms|_mb|_per_hour|joules_per_tile)"
    r"|metrics/benchmark\.json/speedup.*|(artifacts|metrics)/report\.json/(.*/)?nbytes"
    r"|plots/(latency|pareto)\.csv"
)
"""Paths of what the machine's speed decides; the size of the page does, by the digits of its times."""
FILES = ("models", "plots", "extra", "reports/slides")
STORE = ".store"
THERE = "there"

Fields = dict[str, Any]
"""Values by path; those of a page are tuples of lines, one a section."""


def recipes(root: Path) -> Fields:
    """Every recipe key of the store, and each field of what it is the hash of."""
    found: Fields = {}
    for path in root.glob(f"{STORE}/*/*/recipe.json"):
        key = path.parent.relative_to(root).as_posix()
        found |= {key: THERE} | dict(json_fields(json.loads(path.read_bytes()), key))
    return found


def items(root: Path) -> Fields:
    """Every committed item of the store, and the sha256 of each of its files, item.json among them."""
    found: Fields = {}
    for path in root.glob(f"{STORE}/*/*/[!.]*/item.json"):
        found |= {path.parent.relative_to(root).as_posix(): THERE} | _checksums(root, path.parent)
    return found


def manifests(root: Path) -> Fields:
    """Every field of artifacts/*.json."""
    return _json_files(root, "artifacts/*.json")


def metrics(root: Path) -> Fields:
    """Every field of metrics/*.json."""
    return _json_files(root, "metrics/*.json")


def files(root: Path) -> Fields:
    """sha256 of the student's files, the plots, the slides' pictures, and what stands in `extra/`."""
    found: Fields = {}
    for folder in FILES:
        found |= _checksums(root, root / folder)
    return found


def text(root: Path) -> Fields:
    """The lines of each section of the report's pages, and of the model card."""
    found: dict[str, list[str]] = {}
    for path in sorted((root / "reports").glob("*")):
        if path.suffix in (".html", ".md"):
            read = page_lines if path.suffix == ".html" else text_lines
            for section, line in read(path.read_text(encoding="utf-8")):
                found.setdefault(f"reports/{path.name}#{section}", []).append(line)
    return {where: tuple(lines) for where, lines in found.items()}


PARTS: Mapping[str, Callable[[Path], Fields]] = {
    "recipe keys": recipes,
    "store items": items,
    "manifests": manifests,
    "metrics": metrics,
    "files": files,
    "text": text,
}


def json_fields(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, value) of everything in a JSON value that holds nothing else; an empty list or object is a value."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from json_fields(inner, f"{path}/{name}")
    elif isinstance(value, list) and value:
        ids = [inner.get("id") if isinstance(inner, dict) else None for inner in value]
        named = None not in ids and len(set(ids)) == len(ids)
        for name, inner in zip(ids if named else range(len(value)), value, strict=True):
            yield from json_fields(inner, f"{path}/{name}")
    else:
        yield path, value


def _json_files(root: Path, pattern: str) -> Fields:
    found: Fields = {}
    for path in root.glob(pattern):
        found |= json_fields(json.loads(path.read_bytes()), path.relative_to(root).as_posix())
    return found


def _checksums(root: Path, folder: Path) -> Fields:
    """Hidden files are nobody's result."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
