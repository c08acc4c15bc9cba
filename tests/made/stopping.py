"""A process that signals itself at one place of its work, so that it is there for certain, however fast or slow it is.

The place is one of Python's audit events, which come before a file is opened or renamed.

    python stopping.py FOLDER MODULE …    runs the module, a rank whose number FOLDER/RANK has, where there are several;
                                          the first to have written a checkpoint stops
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Place = Callable[[str, tuple[Any, ...]], bool]
"""Whether it is there, by the name of an audit event and what comes with it."""


def signal_at(place: Place, number: signal.Signals, before: Callable[[], bool] = lambda: True) -> None:
    """Signal this process, all of its threads, as it comes there the first time; not where `before` says no."""
    there = False

    def look(event: str, given: tuple[Any, ...]) -> None:
        nonlocal there
        if not there and place(event, given):
            there = True
            if before():
                os.kill(os.getpid(), number)

    sys.addaudithook(look)


def second_opening(name: str) -> Place:
    """Where a file of that name is opened for the second time: what was written at the first is there."""
    opened = 0

    def at(event: str, given: tuple[Any, ...]) -> bool:
        nonlocal opened
        opened += event == "open" and os.path.basename(str(given[0])) == name  # noqa: PTH119
        return opened == 2

    return at


def after_renaming(name: str) -> Place:
    """At the first event after a file got that name."""
    renamed = list[str]()

    def at(event: str, given: tuple[Any, ...]) -> bool:
        if event == "os.rename" and os.path.basename(str(given[1])) == name:  # noqa: PTH119
            renamed.append(str(given[1]))
            return False
        return any(map(os.path.exists, renamed))

    return at


def _is_first(folder: Path) -> bool:
    """Whether none has stopped before."""
    try:
        (folder / "stopped").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


if __name__ == "__main__":
    # The module is to find what it imports as it does without this program.
    sys.path[0] = ""
    folder = Path(sys.argv[1])
    (folder / os.environ["RANK"]).write_text(str(os.getpid()))
    signal_at(after_renaming("checkpoint.pt"), signal.SIGSTOP, lambda: _is_first(folder))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
