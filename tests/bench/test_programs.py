"""Every program that measures says what it found in one way, leaves nothing, and stands in docs/benchmarks.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from imports import ROOT

SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted((ROOT / "bench").rglob("*.py"))
}
NO_PROGRAM = {
    "bench.scratch": "is run by what it keeps",
    "bench.tiles.one_slide": "is run by bench.tiles.speed",
    "bench.study.lightly_training": "is run by bench.study.lightly, in another environment",
}


def is_program(path: Path) -> bool:
    return any(
        isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    )


PROGRAMS = [name for name, path in SOURCES.items() if is_program(path) and name not in NO_PROGRAM]


@pytest.mark.parametrize("name", PROGRAMS)
def test_its_last_line_is_printed_in_the_one_way(name: str) -> None:
    text = SOURCES[name].read_text(encoding="utf-8")
    # A kernel's bench prints through timing.report, which does.
    assert "finish(" in text or "timing.report(" in text


@pytest.mark.parametrize("name", SOURCES)
def test_its_folders_go_with_it(name: str) -> None:
    if name != "bench.scratch":
        assert "tempfile" not in SOURCES[name].read_text(encoding="utf-8"), "take bench.scratch"


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_named_in_the_page_of_benchmarks(name: str) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert f"python -m {name}" in page, f"docs/benchmarks.md does not say what `python -m {name}` shows"
