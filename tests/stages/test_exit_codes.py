"""Exit codes: one table of the docs, and commands that end with them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from imports import ROOT
from made.checkout import put
from made.command import histill

from pipeline.base.errors import StoreError, Unfinished
from pipeline.base.store import Store
from stages.command import Exit, errors


def test_the_docs_have_every_code_once() -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)] == list(Exit)
    others = [path for path in (ROOT / "docs").glob("*.md") if "| code | means |" in path.read_text()]
    assert [path.name for path in others] == ["commands.md"]


def test_commands_end_with_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    ref = put(store, "a")
    told = {"HISTILL_STORE": str(store.root)}
    assert histill(tmp_path, "store", "verify", **told).returncode == Exit.OK
    (store.path(ref) / "data").write_bytes(b"b")
    assert histill(tmp_path, "store", "verify", **told).returncode == Exit.PARTLY
    assert histill(tmp_path, "store", "why", "zz", **told).returncode == Exit.ERROR
    assert histill(tmp_path, "store", "why", **told).returncode == Exit.USAGE
    assert histill(tmp_path, "nothing").returncode == Exit.USAGE


@pytest.mark.parametrize(("error", "code"), [(StoreError("a"), Exit.ERROR), (Unfinished("a"), Exit.PARTLY)])
def test_an_error_has_its_code(error: Exception, code: Exit) -> None:
    import typer

    with pytest.raises(typer.Exit) as ended, errors(debug=False):
        raise error
    assert ended.value.exit_code == code


def test_ctrl_c_ends_with_its_code(tmp_path: Path) -> None:
    """At params.yaml, which is a pipe here that nobody writes to."""
    os.mkfifo(tmp_path / "params.yaml")
    words = [sys.executable, "-m", "stages", "slides"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    process = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    try:
        # Until it reads, opening the other end for writing is refused.
        deadline = time.monotonic() + 60
        while True:
            try:
                writer = os.open(tmp_path / "params.yaml", os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == Exit.INTERRUPTED
        os.close(writer)
    finally:
        process.kill()
        process.wait()
