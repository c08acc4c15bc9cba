"""What a stage prints: whatever a slide is called."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pipeline.base.errors import StoreFull
from pipeline.base.items import SlidesManifest, TilesManifest
from pipeline.base.living.runs import runs
from pipeline.base.manifest import Refusal
from pipeline.base.progress import console
from pipeline.base.store import Ref, Store
from stages.command import errors, execute, show_refusals
from stages.slides import Params as SlidesParams


def test_a_refused_id_is_printed_as_it_is() -> None:
    refused = (Refusal(id="[/b]", reason="[red]unreadable", fix="see [1]"),)
    with console.capture() as shown:
        show_refusals(SlidesManifest(refused=refused))
    for text in ("[/b]", "[red]unreadable", "see [1]"):
        assert text in shown.get()


def test_what_an_earlier_stage_has_told_is_only_counted() -> None:
    old, new = Refusal(id="old", reason="no mpp"), Refusal(id="new", reason="no tissue")
    with console.capture() as shown:
        show_refusals(TilesManifest(refused=(old, new)), {old})
    assert "no tissue" in shown.get() and "no mpp" not in shown.get() and "the 1 refused" in shown.get()


def test_nothing_refused_prints_nothing() -> None:
    with console.capture() as shown:
        show_refusals(SlidesManifest())
    assert shown.get() == ""


@pytest.mark.parametrize("name", ["[/b]", "slide [1].svs"])
def test_an_error_is_printed_as_it_is(name: str) -> None:
    with console.capture() as shown:
        console.print(f"error: {name}", style="bold red", soft_wrap=True)
    assert name in shown.get()


def test_what_the_system_says_of_a_file_is_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(typer.Exit) as left, errors(debug=False):
        (tmp_path / "file" / os.fsdecode(b"caf\xe9.csv")).read_bytes()
    assert left.value.exit_code == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "caf" in told and "Not a directory -> is there such a place" in told
    with pytest.raises(NotADirectoryError), errors(debug=True):
        (tmp_path / "file" / "x").read_bytes()


def test_a_project_in_a_folder_whose_name_is_no_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / os.fsdecode(b"caf\xe9")
    project.mkdir()
    monkeypatch.chdir(project)
    (project / "params.yaml").touch()
    with pytest.raises(typer.Exit):
        execute("slides", SlidesParams, lambda params, store: SlidesManifest(), debug=False)
    assert "path is not UTF-8" in capsys.readouterr().err


def test_a_run_that_a_signal_ends_says_what_it_was_doing() -> None:
    code = (
        "import os, signal\n"
        "from stages.command import errors\n"
        "with errors(False):\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGSEGV and "Segmentation fault" in ended.stderr


def test_a_stage_says_what_it_holds_until_its_manifest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HISTILL_STORE_BASE", raising=False)
    monkeypatch.setenv("HISTILL_STORE", str(tmp_path / "store"))
    (tmp_path / "params.yaml").write_text("slides: {}\n")

    def run(params: SlidesParams, store: Store) -> SlidesManifest:
        store.has(Ref("slides", "recipe", "item"))
        (found,) = runs(store.root)
        assert found.living and found.begun.stage == "slides" and found.held == {"slides/recipe"}
        return SlidesManifest()

    def fail(params: SlidesParams, store: Store) -> SlidesManifest:
        run(params, store)
        raise StoreFull("no room left")

    with pytest.raises(typer.Exit):
        execute("slides", SlidesParams, fail, debug=False)
    assert [(left.living, left.held) for left in runs(tmp_path / "store")] == [(False, {"slides/recipe"})]
    for left in runs(tmp_path / "store"):
        left.drop()
    execute("slides", SlidesParams, run, debug=False)
    assert not runs(tmp_path / "store") and (tmp_path / "artifacts" / "slides.json").exists()
