"""The command line as a whole: help with an example each, completion, JSON for programs, quiet in a pipe."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from imports import ROOT
from made.checkout import KEY, project, put
from made.command import histill
from typer.main import get_command

from pipeline.base.store import Store
from stages.cli.app import cli


def commands(of: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, by its words."""
    if hasattr(of, "commands"):
        for name, inner in of.commands.items():
            yield from commands(inner, (*words, name))
    else:
        yield words, of


ALL = dict(commands(get_command(cli)))


def example(command: click.Command) -> list[str]:
    """Of its help, the line that begins as it is typed; what the shell does with its output is left out."""
    lines = [line.strip() for line in (command.help or "").splitlines()]
    found = [line for line in lines[1:] if line.startswith("histill ")]
    assert len(found) == 1, "one example, below what it does"
    return shlex.split(found[0].partition(" > ")[0])[1:]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_an_example_that_parses(words: tuple[str, ...]) -> None:
    typed = example(ALL[words])
    assert tuple(typed[: len(words)]) == words
    ALL[words].make_context(words[-1], typed[len(words) :])


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_argument_and_option_says_what_it_is(words: tuple[str, ...]) -> None:
    silent = [param.name for param in ALL[words].params if not getattr(param, "help", None)]
    assert not silent


def test_the_readme_and_the_docs_name_every_command() -> None:
    text = "".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    missing = [" ".join(words) for words in ALL if words[-1] not in text]
    assert not missing


@pytest.mark.parametrize(("typed", "found"), [("histill hea", "heatmap"), ("histill store wh", "why")])
def test_a_shell_completes(typed: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"_HISTILL_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        get_command(cli)(prog_name="histill", args=[])
    assert said.getvalue().split() == [found]


def test_programs_read_json(tmp_path: Path) -> None:
    at = project(tmp_path)
    store = Store(at / ".store")
    put(store, "a")
    put(store, "x")

    def read(*words: str) -> object:
        done = histill(at, *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    items = {item["item"].rpartition("/")[2]: item for item in read("store", "ls")}
    assert items["a"]["named_by"] == ["main"] and items["x"] == {
        "item": f"tiles/{KEY}/x",
        "nbytes": store.nbytes(next(ref for ref in store.refs() if ref.item == "x")),
        "named_by": [],
        "slide": None,
        "base": None,
    }
    (recipe,) = read("store", "du")["recipes"]
    assert (recipe["kind"], recipe["items"]) == ("tiles", 2)
    assert recipe["nbytes"] == sum(item["nbytes"] for item in items.values())
    why = read("store", "why", "x")
    assert why == [{**items["x"], "stage": "tiles", "made_from": {"tile_px": 224}}]
    assert read("store", "verify") == {"checked": 2, "corrupt": []}
    assert read("summary")["report"] == {"path": "reports/report.html", "made": False}
    assert read("teachers")["uni"]["width"] == 1024


def test_a_pipe_gets_neither_colours_nor_bars(tmp_path: Path) -> None:
    at = project(tmp_path)
    put(Store(at / ".store"), "a")
    for words in (["store", "verify"], ["store", "du"], ["store", "ls"], ["teachers"], ["store", "why", "zz"]):
        done = histill(at, *words)
        assert "\x1b" not in done.stdout + done.stderr and "\r" not in done.stdout + done.stderr
