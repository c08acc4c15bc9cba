"""What a bench leaves behind: nothing, however it ends.

`kill -9` runs no `finally`, so a folder is deleted by a small process that waits for its owner's end, and processes
that a bench starts are told by the kernel when it dies (Linux). This file imports the standard library alone: the
waiting process starts in a few hundredths of a second.
"""

from __future__ import annotations

import ctypes
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PR_SET_PDEATHSIG = 1


@contextmanager
def scratch(within: Path | None = None) -> Iterator[Path]:
    """A folder for the time of the block, in `within` or the system's temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="histill-bench-", dir=within))
    command = [sys.executable, str(Path(__file__).resolve()), str(folder)]
    # Its own session: Ctrl-C, or a kill of the whole group, must not take it along.
    keeper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield folder
    finally:
        assert keeper.stdin is not None
        keeper.stdin.close()
        keeper.wait()


def die_with_parent() -> None:
    """As `preexec_fn` of a process: it is killed when the thread that started it ends, whatever ended that."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    # End of file: the owner closed its end, or is dead.
    sys.stdin.buffer.read()
    shutil.rmtree(sys.argv[1], ignore_errors=True)
