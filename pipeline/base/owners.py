"""Who is writing: a file that a living process owns, and how others tell whether it still lives.

Ownership is a lock (`flock`) on the file: the kernel releases it when its owner dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

OWNER_SUFFIX = ".owner"


@dataclass(frozen=True)
class Owner:
    """A file that this process owns until `release`, or until it dies."""

    path: Path
    handle: int

    def release(self) -> None:
        """Give it up; the file goes first, so that nobody sees one that a living process has let go of."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self.handle)


def own(path: Path) -> Owner:
    """Make a file and own it. It has its name only once it is locked, so that nobody takes it for a dead owner's.

    Raises OSError: FileNotFoundError where its folder is gone.
    """
    making = path.with_name(f".{path.name}")
    handle = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(making, path)
    except BaseException:
        os.close(handle)
        with contextlib.suppress(OSError):
            making.unlink()
        raise
    return Owner(path, handle)


def is_living(path: Path) -> bool:
    """Whether a process that lives owns the file; False where it is not there."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    try:
        # Shared, so that two who ask do not take one another for the owner.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
