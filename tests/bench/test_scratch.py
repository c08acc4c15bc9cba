"""A bench leaves nothing behind: its folder goes with it, ended or killed, and so do the processes it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from imports import ROOT

HOLD = """
import signal, subprocess, sys, time
from pathlib import Path
from bench.scratch import die_with_parent, scratch
# What a shell starts in the background ignores Ctrl-C, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
with scratch(Path(sys.argv[1])) as folder:
    (folder / "some").mkdir()
    (folder / "some" / "file").write_bytes(b"0" * 1000)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], preexec_fn=die_with_parent)
    print(child.pid, flush=True)
    if sys.argv[2] == "fail":
        raise SystemExit(3)
    time.sleep(60)
"""


def wait_for(gone: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if gone():
            return True
        time.sleep(0.02)
    return False


def ended(pid: int) -> bool:
    """No such process, or one that only waits to be reaped."""
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z"


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
    process.wait(30)
    process.stdout.close()
    assert wait_for(lambda: not list(tmp_path.iterdir())), "the folder is left"
    assert wait_for(lambda: ended(child)), "a process is left"
