"""A Dask scheduler and its workers as processes of their own on this machine, and connections that can be cut.

Whoever connects to the scheduler does so through a relay here (`runs` for the client of a stage, `workers` for the
workers), which drops all of its connections when it is told to, as a switch does that is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import selectors
import socket
import threading
import time
from pathlib import Path
from types import TracebackType

from bench.apart import Apart, Running

WORKERS = 2
_ANSWER_S = 30.0


class Outside:
    """A context manager: a scheduler with `WORKERS` workers, all of which die with it."""

    def __init__(self, apart: Apart, folder: Path) -> None:
        self._apart, self._folder = apart, folder
        port = _free_port()
        self.scheduler = apart.start(serve_scheduler, port)
        _wait_for(port)
        self.runs, self.workers = Relay(port), Relay(port)
        self.started: list[Running] = []
        for _ in range(WORKERS):
            self.add_worker()

    @property
    def address(self) -> str:
        """For `cluster.scheduler`."""
        return self.runs.address

    def add_worker(self) -> None:
        """One more."""
        self.started.append(self._apart.start(serve_worker, self.workers.address, self._folder))

    def __enter__(self) -> Outside:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in (*self.started, self.scheduler):
            process.kill()
        for relay in (self.runs, self.workers):
            relay.close()


class Relay:
    """Passes bytes on between whoever connects to `address` and a port of this machine."""

    def __init__(self, port: int) -> None:
        self._port, self._open = port, list[tuple[socket.socket, socket.socket]]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """Drop every connection; others may be made at once."""
        for ends in self._open:
            for end in ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        """Drop every connection, and take no more."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                try:
                    there = socket.create_connection(("127.0.0.1", self._port))
                except OSError:
                    here.close()
                    continue
                self._open.append((here, there))
                self._threads.append(threading.Thread(target=_carry, args=(here, there), daemon=True))
                self._threads[-1].start()


def _carry(here: socket.socket, there: socket.socket) -> None:
    """Both ways, until one end closes."""
    with here, there, selectors.DefaultSelector() as ready, contextlib.suppress(OSError):
        ready.register(here, selectors.EVENT_READ, (here, there))
        ready.register(there, selectors.EVENT_READ, (there, here))
        while True:
            for key, _ in ready.select():
                source, sink = key.data
                data = source.recv(1 << 16)
                if not data:
                    return
                sink.sendall(data)


def serve_scheduler(port: int) -> None:
    """Until it is killed."""
    from distributed import Scheduler

    async def serve() -> None:
        async with Scheduler(host="127.0.0.1", port=port, dashboard=False) as scheduler:
            await scheduler.finished()

    logging.disable()
    asyncio.run(serve())


def serve_worker(scheduler: str, folder: Path) -> None:
    """Until it is killed, or has lost its scheduler."""
    import os

    from distributed import Worker

    async def serve() -> None:
        worker = Worker(scheduler, nthreads=1, memory_limit=0, host="127.0.0.1", dashboard=False)
        async with worker:
            await worker.finished()

    logging.disable()
    os.chdir(folder)
    asyncio.run(serve())


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    end = time.monotonic() + _ANSWER_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
