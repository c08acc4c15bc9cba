"""A file that keeps whoever reads it waiting, so that a test finds a process where it is for certain, however fast."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


class HeldFile:
    """A pipe in the file's place: who opens it to read waits, at first for a writer, then for what is written."""

    def __init__(self, path: Path) -> None:
        self._path, self._content = path, path.read_bytes()
        self._other = path.with_name(f".{path.name}.held")
        os.mkfifo(self._other)
        self._pipe, self._writer = os.open(self._other, os.O_PATH | os.O_NOFOLLOW), -1
        os.replace(self._other, path)

    def is_read(self) -> bool:
        """Whether somebody is at it, or was."""
        if self._writer < 0:
            # ENXIO: nobody has it open.
            with contextlib.suppress(OSError):
                self._writer = os.open(f"/proc/self/fd/{self._pipe}", os.O_WRONLY | os.O_NONBLOCK)
        return self._writer >= 0

    def put_back(self) -> None:
        """The file in its place again, for who comes from here on; who waits goes on waiting."""
        self._other.write_bytes(self._content)
        os.replace(self._other, self._path)

    def let_go(self) -> None:
        """Who waits reads the file, which has to fit into a pipe (64 KiB); nobody is held any more."""
        if self._pipe < 0:
            return
        if self.is_read():
            # Who waited may have been killed.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._writer, self._content)
            os.close(self._writer)
        os.close(self._pipe)
        self._pipe = -1


@contextlib.contextmanager
def held(path: Path) -> Iterator[HeldFile]:
    """Hold a file for as long as the block lasts."""
    file = HeldFile(path)
    try:
        yield file
    finally:
        file.put_back()
        file.let_go()
