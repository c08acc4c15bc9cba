"""The process of one contender, from its first line to its last; what it does is `contest.py`.

Nothing of torch is imported ahead of the process itself: the benchmark that starts it needs none.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline.base.errors import EngineError, HistillError
from pipeline.benchmark.messages import Spec, Unmeasured


def serve(connection: Connection, spec: Spec) -> None:
    """Say hello, then answer until the other end is closed; in a session of its own, which ends with it as a whole.

    Where a large batch fills the machine's memory, Linux ends this process and nobody else's. Where the benchmark is
    killed, no pass and no compiler goes on for minutes, on the cores that the next run measures.
    """
    os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        from pipeline.benchmark.contest import Contest

        contest = Contest(spec)
        connection.send(contest.hello())
        while True:
            connection.send(contest.answer(connection.recv()))
    except EOFError:
        return
    except Exception as error:
        # Who has gone is told nothing.
        with contextlib.suppress(OSError):
            connection.send(_told(error))


def _told(error: Exception) -> Exception:
    """What the benchmark hears of an error: its own kind where people caused it, else why a figure is not measured."""
    if isinstance(error, EngineError):
        return Unmeasured(error.what)
    if isinstance(error, HistillError):
        return error
    return Unmeasured(f"{type(error).__name__}: {_first_line(error)}")


def _end_with_parent() -> None:
    """Wait for the parent's end, then end this session."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else "no message"
