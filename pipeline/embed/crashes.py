"""A decoder that crashes takes its process with it: the job runs in a child, whose parent starts another after it.

Readers are threads, so a crash ends the whole process and does not say whose slide it was. A journal, which both
processes have in memory, says which were open. Those are opened again after all others, one at a time, and whichever
was open alone at the second crash is left out by name. So one bad slide costs two starts, and no slide anything.

The parent has loaded nothing but the command line, and takes its child's place towards whoever called it: exit status,
signals, standard streams. It ends as its child does, and no child outlives it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field

from pipeline.base.progress import console

CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
MOST = 2
"""Crashes on a slide after which it is not opened again: among others, then alone."""
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_WAITED_FOR = (*_PASSED_ON, signal.SIGCHLD)
_PR_SET_PDEATHSIG = 1


@dataclass
class Journal:
    """Which slides are open in this process, and what became of this run's processes before it.

    `crashed` counts crashes by slide, `made` has the tiles of each that was made; without a `file` nobody reads it.
    """

    file: int | None = None
    began: float = field(default_factory=time.monotonic)
    crashed: Counter[str] = field(default_factory=Counter)
    made: dict[str, int] = field(default_factory=dict)

    def open(self, name: str) -> None:
        """From here on a crash may be this slide's."""
        self._write("open", name)

    def close(self, name: str, tiles: int = 0) -> None:
        """No longer; of a slide that is made, how many tiles it has."""
        self._write("close", name, tiles)

    def _write(self, *told: str | int) -> None:
        if self.file is not None:
            os.write(self.file, json.dumps(told).encode() + b"\n")

    def read_crash(self) -> list[str]:
        """What was open when the process ended that wrote it; counted, and the file is emptied."""
        assert self.file is not None
        opened: dict[str, None] = {}
        for line in os.pread(self.file, os.fstat(self.file).st_size, 0).splitlines():
            what, name, *tiles = json.loads(line)
            if what == "open":
                opened[name] = None
                continue
            opened.pop(name, None)
            if tiles[0]:
                self.made[name] = tiles[0]
        self.crashed.update(list(opened))
        os.ftruncate(self.file, 0)
        os.lseek(self.file, 0, os.SEEK_SET)
        return list(opened)


def in_a_child() -> Journal:
    """Returns in a child, once more after each crash; the parent waits, and ends as the last child did.

    Where standard output is not the process's own, somebody has called it as a function: then it returns here.
    """
    if sys.stdout is not sys.__stdout__:
        return Journal()
    journal = Journal(os.memfd_create("journal"))
    while True:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
        pid = _forked()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return journal
        status = _waited(pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if not os.WIFSIGNALED(status):
            # What is buffered was the child's to write, and what is to be done at an exit too.
            os._exit(os.waitstatus_to_exitcode(status))
        ended_by = signal.Signals(os.WTERMSIG(status))
        opened = journal.read_crash() if ended_by in CRASHES else []
        if not opened:
            _end_by(ended_by)
        what = f"embed: the process crashed ({ended_by.name}) with {', '.join(opened)} open"
        then = "left out" if len(opened) == 1 and journal.crashed[opened[0]] >= MOST else "looked at again at the end"
        console.print(f"{what}: {then}", style="yellow", soft_wrap=True)


def _forked() -> int:
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with warnings.catch_warnings():
        # NumPy's threads, if it has any yet, wait for work, and are made anew in the child.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    return pid


def _waited(pid: int) -> int:
    """How the child has ended; signals that it has not had from the terminal itself are passed on to it."""
    while True:
        told = signal.sigwaitinfo(_WAITED_FOR)
        if told.si_signo == signal.SIGCHLD:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return status
        elif told.si_code <= 0:
            # Of a user, and not of the kernel, which sends it to all processes of the terminal.
            os.kill(pid, told.si_signo)


def _end_by(number: signal.Signals) -> None:
    """As the child did."""
    # Where there may be a core, the child has left it.
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
