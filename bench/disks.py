"""Disks for a store that fail: one of a given size, and one that turns read-only. Needs the right to mount (root)."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOM = 256 << 20
"""Bytes of a disk that holds everything."""


@contextlib.contextmanager
def disk_of(folder: Path, nbytes: int) -> Iterator[None]:
    """A tmpfs of that size at `folder` for the time of the block."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={nbytes}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def enlarge(folder: Path) -> None:
    """Room for everything on the disk at `folder`."""
    subprocess.run(["mount", "-o", f"remount,rw,size={ROOM}", str(folder)], check=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """What is opened below `folder` from here on cannot be written (EROFS); what is open goes on.

    The folder is mounted over itself: a file system of which a file is open for writing does not turn read-only.
    """
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        # Refused for as long as something was opened between the two.
        while subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], capture_output=True).returncode:
            pass
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def may_mount(folder: Path) -> bool:
    """Whether this process may mount; `folder` is made to see it."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    return subprocess.run(["umount", str(folder)], check=False).returncode == 0
