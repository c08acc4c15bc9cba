"""Exit codes: one table of the docs, and commands that end with them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from imports import ROOT
from made.checkout import put
from made.command import histill
from made.held import held
from made.processes import until
from made.python_server import loaded_python

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


HISTILL = """
import os, runpy
print(os.getpid(), flush=True)
runpy.run_module("stages", run_name="__main__", alter_sys=True)
"""


def test_ctrl_c_ends_with_its_code(tmp_path: Path) -> None:
    """At params.yaml, which is held."""
    (tmp_path / "params.yaml").touch()
    # Not Python itself, which would ignore it where the tests were started in a shell's background.
    words = [loaded_python(), "-c", HISTILL, "slides"]
    environment, pipes = {**os.environ, "PYTHONPATH": str(ROOT)}, {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with (
        held(tmp_path / "params.yaml") as params,
        subprocess.Popen(words, cwd=tmp_path, env=environment, **pipes, text=True) as process,
    ):
        pid = int(process.stdout.readline())
        until(lambda: params.is_read() or process.poll() is not None)
        os.kill(pid, signal.SIGINT)
        # Who was not yet waiting as it came is told of it once the reading ends.
        params.let_go()
        said = process.communicate(timeout=600)[1]
    assert process.returncode == Exit.INTERRUPTED, said
