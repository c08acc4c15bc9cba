"""`histill …` as it is typed, in this process: what starts one for a command alone waits for Python's imports."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from typer.testing import CliRunner

from stages.cli.app import cli


def histill(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`; what is no error of its own is raised here."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(cli, words, env=environment, catch_exceptions=False)
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)
