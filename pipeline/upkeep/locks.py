"""What a store's file system knows of locks, found out by two processes, and what that means for who shares it."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.living.owners import LEASE_S
from pipeline.base.syncing import file_system

SHARED = (
    "nfs",
    "lustre",
    "cifs",
    "smb",
    "fuse",
    "9p",
    "gpfs",
    "beegfs",
    "ceph",
    "afs",
    "glusterfs",
    "pvfs",
    "virtiofs",
)
"""File systems that several machines mount, as the kernel's names for them begin."""
_OTHER = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1], "rb"), fcntl.LOCK_SH | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(3)
"""


@dataclass(frozen=True)
class Locks:
    """`kind` of file system; whether a lock that one process takes holds another up (`works`)."""

    kind: str
    works: bool
    error: str = ""

    def __str__(self) -> str:
        held = f"flock works on {self.kind}" if self.works else f"flock does not work on {self.kind}{self.error}"
        if self.kind.startswith(SHARED):
            return f"{held}; a machine that is not heard of for {LEASE_S:.0f} s gives up what it writes"
        return held if self.works else f"{held}; writers are told by their processes"


def locks(folder: Path) -> Locks:
    """Try it in an existing folder that can be written: this process locks a file, and another one tries to."""
    kind = file_system(folder)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return Locks(kind, False, f" ({error.strerror})")
        other = subprocess.run([sys.executable, "-S", "-c", _OTHER, file.name], capture_output=True, check=False)
        return Locks(
            kind, other.returncode == 3, "" if other.returncode == 3 else " (another process gets the lock too)"
        )
