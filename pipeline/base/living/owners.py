"""Who is writing: a file that a living process owns, and how others tell whether it still lives.

The file says which process of which machine made it, is locked (`flock`) where the file system can lock, and is touched
every quarter of a minute. Who asks on the same machine looks for the process; in another container of it, at the lock,
which the kernel releases when its owner dies. On another machine, whose locks a file system may not know, what counts
is how long ago the file was touched, by the file system's own clock: after two minutes its owner is given up.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import functools
import os
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

OWNER_SUFFIX = ".owner"
BEAT_S, LEASE_S = 15.0, 120.0
"""How often an owner touches its file, and for how long without that another machine waits. NFS shows what another
client has touched up to a minute late, unless the file is opened."""
MAKING_S = 2.0
"""For how long a file that is just being made is taken for a living owner's: who is killed while at it has nothing yet.
Whoever takes longer finds who came meanwhile, and one that was deleted is made again."""


class Process(BaseModel):
    """A process, for others to look for; `boot` and `namespace` say where its number means something."""

    model_config = ConfigDict(frozen=True)
    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    started: str
    locked: bool = False
    """Whether the owner's lock holds against others on its machine."""


class State(enum.Enum):
    """What is known of an owner."""

    LIVES = "lives"
    BEATS = "beats"
    """On another machine: touched its file within the lease."""
    DEAD = "dead"


@dataclass(frozen=True)
class Owner:
    """A file that this process owns until `release`, or until it dies."""

    path: Path
    handle: int

    def release(self) -> None:
        """Give it up; the file goes first, so that nobody sees one that a living process has let go of."""
        _HEART.forget(self.handle)
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self.handle)


def own(path: Path) -> Owner:
    """Make a file and own it. It has its name only once it is whole, so that nobody takes it for a dead owner's.

    Raises OSError: FileNotFoundError where its folder is gone.
    """
    making = path.with_name(f".{path.name}")
    handle = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        os.write(handle, me().model_copy(update={"locked": _lock(handle, making)}).model_dump_json().encode())
        os.rename(making, path)
    except BaseException:
        os.close(handle)
        with contextlib.suppress(OSError):
            making.unlink()
        raise
    _HEART.keep(handle)
    return Owner(path, handle)


def is_living(path: Path) -> bool:
    """Whether a process that lives owns the file, as far as can be told; False where it is not there."""
    return state(path) is not State.DEAD


def state(path: Path) -> State:
    """What can be told of a file's owner now."""
    lease_s = LEASE_S
    try:
        with open(path, "rb") as file:
            text, touched_ns, handle = file.read(), os.fstat(file.fileno()).st_mtime_ns, file.fileno()
            owner = Process.model_validate_json(text)
            here = me()
            if (owner.boot, owner.namespace) == (here.boot, here.namespace):
                return State.LIVES if _runs(owner) else State.DEAD
            if here.machine and (owner.host, owner.machine) == (here.host, here.machine) and owner.boot != here.boot:
                # This machine, before it was started again.
                return State.DEAD
            if owner.boot == here.boot and owner.locked:
                return State.LIVES if is_locked(handle) else State.DEAD
    except FileNotFoundError:
        return State.DEAD
    except PermissionError:
        touched_ns = path.stat().st_mtime_ns
    except ValidationError:
        if path.name.startswith("."):
            lease_s = MAKING_S
    return State.BEATS if now_ns(path.parent) - touched_ns < lease_s * 1e9 else State.DEAD


def settle(path: Path) -> State:
    """Wait until it is known whether an owner on another machine lives: until it beats once more, or is given up."""
    found = state(path)
    try:
        first_ns = path.stat().st_mtime_ns
        while found is State.BEATS and path.stat().st_mtime_ns == first_ns:
            time.sleep(1)
            found = state(path)
    except FileNotFoundError:
        return State.DEAD
    return found


def now_ns(folder: Path) -> int:
    """The time by the clock of the file system that a folder is on, ns; by this machine's where it cannot be written.

    What was written there is compared with this, so that no machine's clock has to be right.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return time.time_ns()


def me() -> Process:
    """This process."""
    return _process(os.getpid())


@functools.lru_cache(maxsize=1)
def _process(pid: int) -> Process:
    stat = _stat(pid)
    return Process(
        host=os.uname().nodename,
        machine=_text("/etc/machine-id"),
        boot=_text("/proc/sys/kernel/random/boot_id"),
        namespace=str(Path("/proc/self/ns/pid").readlink()),
        pid=pid,
        started=stat[1] if stat else "",
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, str] | None:
    """(state, start in clock ticks since boot) of a process; None where there is none, or none that one may see."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], fields[19]


def _runs(owner: Process) -> bool:
    """Whether a process of this machine is there, and is not another one of the same number."""
    found = _stat(owner.pid)
    if found is not None:
        return found[0] not in "ZX" and found[1] == owner.started
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _lock(handle: int, path: Path) -> bool:
    """Lock a file, and see that the lock holds: some file systems have none, and some say yes to everyone."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(path, "rb") as other:
            return is_locked(other.fileno())
    except OSError:
        return False


def is_locked(handle: int) -> bool:
    """Whether another open file holds the file's lock."""
    try:
        # Shared, so that two who ask do not take one another for the owner.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False


class _Heart:
    """Touches the files that this process owns, on a thread of its own that ends with the process."""

    def __init__(self) -> None:
        self._begin()
        # Threads, and ownership, do not cross a fork; the mutex may be held at that moment.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._handles: set[int] = set()
        self._beats = False
        self._mutex = threading.Lock()

    def keep(self, handle: int) -> None:
        with self._mutex:
            self._handles.add(handle)
            if not self._beats:
                self._beats = True
                threading.Thread(target=self._beat, daemon=True, name="owners").start()

    def forget(self, handle: int) -> None:
        with self._mutex:
            self._handles.discard(handle)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            with self._mutex:
                for handle in self._handles:
                    with contextlib.suppress(OSError):
                        os.utime(handle)


_HEART = _Heart()
