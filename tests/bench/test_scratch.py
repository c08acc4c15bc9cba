"""A bench leaves nothing behind: its folder goes with it, ended or killed, and so do the processes it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from imports import ROOT
from made.processes import is_alive, until

HOLD = """
import signal, subprocess, sys, time
from pathlib import Path
from bench.scratch import die_with_parent, scratch
# What a shell starts in the background ignores Ctrl-C, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
with scratch(Path(sys.argv[1])) as folder:
    (folder / "some").mkdir()
    (folder / "some" / "file").write_bytes(b"0" * 1000)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], preexec_fn=die_with_parent)
    print(child.pid, flush=True)
    if sys.argv[2] == "fail":
        raise SystemExit(3)
    time.sleep(3600)
"""


@pytest.mark.parametrize("how", ["kill", "kill the group", "interrupt", "fail"])
def test_nothing_is_left_however_it_ends(how: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path), how]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    if how != "fail":
        assert len(list(tmp_path.iterdir())) == 1
    if how == "kill":
        process.kill()
    elif how == "kill the group":
        os.killpg(process.pid, signal.SIGKILL)
    elif how == "interrupt":
        process.send_signal(signal.SIGINT)
    process.wait(600)
    process.stdout.close()
    until(lambda: not list(tmp_path.iterdir()), 0.02)
    until(lambda: not is_alive(child), 0.02)
