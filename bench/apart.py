"""Work in a process of its own, forked from one that has loaded the libraries: seconds and memory are its own.

What it prints is thrown away. The server dies with this process, and what it forked with the server.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from bench.clock import clock, since
from bench.scratch import die_with_parent

_SERVER_LOST = 255
"""What multiprocessing says of a process whose server does not tell its exit code; killed ones have a negative one."""


@dataclass(frozen=True)
class Told:
    """What some work took, all of its own child processes included, and its peak memory; `error` where it failed."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    error: str | None = None


class ServerLost(Exception):
    """The process that forks was killed, by the system for want of memory or by somebody, and all it had forked died.

    Nothing is known of what they were at. The next call starts another server.
    """


class Apart:
    """Runs functions of modules that are loaded once."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(modules))

    def start(self, work: Callable[..., object], *words: object) -> Running:
        """One call in a process of its own; `work` and `words` are pickled. Raises `ServerLost`."""
        mine, its = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(its, work, words))
        try:
            process.start()
        except EOFError:
            raise ServerLost from None
        its.close()
        return Running(process, mine)

    def run(self, work: Callable[..., object], *words: object) -> Told:
        """What one call takes."""
        return self.start(work, *words).told()


class Running:
    """A call on its way."""

    def __init__(self, process: BaseProcess, answer: Connection) -> None:
        self._process, self._answer = process, answer

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    def told(self) -> Told:
        """What it took, once it has ended; of a killed one that it was. Raises `ServerLost`."""
        try:
            told: Told = self._answer.recv()
        except EOFError:
            self._process.join()
            if self._process.exitcode == _SERVER_LOST:
                raise ServerLost from None
            told = Told(0.0, 0.0, 0.0, f"it ended with exit code {self._process.exitcode}")
        self._process.join()
        self._answer.close()
        return told

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so many seconds."""
        self._process.join(seconds)
        return not self._process.is_alive()

    def kill(self) -> None:
        """`kill -9`, whether it has ended or not."""
        self._process.kill()
        self._process.join()

    def kill_after(self, seconds: float) -> Told:
        """`kill -9`, unless it has ended by then."""
        self._process.join(seconds)
        self._process.kill()
        return self.told()


def _work(answer: Connection, work: Callable[..., object], words: Sequence[object]) -> None:
    die_with_parent()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    began, error = clock(), None
    try:
        work(*words)
    except BaseException:
        error = traceback.format_exc()[-2000:]
    taken = since(began)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer.send(Told(taken.wall_s, taken.cpu_s, peak_mb, error))
