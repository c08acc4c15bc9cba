"""What a worker sees of what the work needs: the store, cores, memory, GPUs, open files, versions."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.files import write_atomic
from pipeline.base.limits import usable_cores
from pipeline.cluster.client import versions


@dataclass(frozen=True)
class Seen:
    """`store` says what is wrong with it as seen from there, empty where nothing is; `memory` in bytes.

    `open_files` is how many files a process may have open there, -1 where there is no limit; `versions` are of what has
    to be alike everywhere.
    """

    host: str
    cores: int
    memory: int
    gpus: tuple[str, ...]
    open_files: int
    versions: dict[str, str]
    store: str


@dataclass(frozen=True)
class Sign:
    """A file in the store by which a worker knows that it sees the same one."""

    path: Path
    text: str

    @classmethod
    def put(cls, store: Path) -> Sign:
        """Write one; whoever asks removes it."""
        sign = cls(store / f".seen-{uuid.uuid4().hex}", uuid.uuid4().hex)
        write_atomic(sign.path, sign.text.encode())
        return sign


def look(sign: Sign) -> Seen:
    """Of this process and its machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Seen(platform.node(), usable_cores(), memory, _gpus(), files, versions(), _wrong_with(sign))


def _wrong_with(sign: Sign) -> str:
    try:
        if sign.path.read_text() != sign.text:
            return "another file system is mounted there"
        write_atomic(sign.path.with_name(f"{sign.path.name}-answer"), b"")
        sign.path.with_name(f"{sign.path.name}-answer").unlink()
    except OSError as error:
        return f"{sign.path.parent}: {error.strerror}"
    return ""


def _gpus() -> tuple[str, ...]:
    """By the driver's own tool, since a worker for cores has no use for torch."""
    if shutil.which("nvidia-smi") is None:
        return ()
    told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return tuple(line.partition(" (UUID")[0] for line in told.stdout.splitlines() if line.startswith("GPU"))
