"""A real SLURM, started and ended by a test, with all that it writes in one folder.

Its nodes n1, n2 … are daemons on this machine, which SLURM tells apart by their ports.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from made.processes import processes, until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
_CONF = """
ClusterName=made
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=2
SlurmdParameters=config_overrides
PartitionName=main Nodes={nodes} Default=YES MaxTime=INFINITE State=UP
PartitionName=shut Nodes={nodes} MaxTime=INFINITE State=DOWN
"""
_NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=8000 State=UNKNOWN\n"


class Slurm:
    """Its daemons; `conf` is what SLURM_CONF has to say."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.conf, self._folder, self._running = folder / "slurm.conf", folder, dict[str, subprocess.Popen[bytes]]()
        self.nodes = [f"n{number + 1}" for number in range(nodes)]

    def start(self) -> None:
        """All three daemons, ready for jobs. Raises AssertionError with what they said where they are not."""
        munge = self._folder / "munge"
        for name in ("munge", "state"):
            (self._folder / name).mkdir(mode=0o700)
        (munge / "key").write_bytes(os.urandom(1024))
        (munge / "key").chmod(0o400)
        named = [f"--{name}-file={munge}/{name}" for name in ("key", "pid", "log", "seed")]
        self._run("munged", "munged", "--foreground", "--force", f"--socket={munge}/socket", *named)
        self._wait(lambda: (munge / "socket").exists())
        host = platform.node().partition(".")[0]
        conf = _CONF.format(folder=self._folder, host=host, port=free_port(), nodes=",".join(self.nodes))
        self.conf.write_text(
            conf + "".join(_NODE.format(name=name, host=host, port=free_port()) for name in self.nodes)
        )
        self._run("slurmctld", "slurmctld", "-D", "-c")
        for name in self.nodes:
            self.start_node(name)
        self._wait(
            lambda: self.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%t").split() == ["idle"] * len(self.nodes)
        )

    def start_node(self, name: str) -> None:
        """Its daemon."""
        self._run(name, "slurmd", "-D", "-N", name)

    def ask(self, *words: str) -> str:
        """What a command of SLURM's says."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout

    def jobs(self) -> list[str]:
        """The numbers of those that wait or run; one that is being put away does not count."""
        lines = self.ask("squeue", "-h", "-o", "%i %t").splitlines()
        return [number for number, state in map(str.split, lines) if state != "CG"]

    def is_over(self, job: str) -> bool:
        """Whether a job has no process any more: it has ended, or waits."""
        words = ["squeue", "-h", "-o", "%i %t"]
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        states = dict(map(str.split, done.stdout.splitlines()))
        return done.returncode == 0 and states.get(job, "PD") == "PD"

    def kill(self, name: str) -> None:
        """kill -9 of slurmctld, or of a node's daemon."""
        self._running[name].kill()
        self._running.pop(name).wait()

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def stop(self) -> None:
        if self.conf.is_file():
            self.ask("scancel", *self.jobs()) if self.jobs() else None
        for name in reversed(list(self._running)):
            self._running[name].terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running[name].wait(5)
            self.kill(name)
        # A job's process that outlives its script, as a worker that is long about its end, belongs to no job here.
        for process in processes(SLURM_CONF=str(self.conf)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _run(self, name: str, program: str, *words: str) -> None:
        path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
        assert path, f"there is no {program}"
        with open(self._folder / f"{name}.said", "ab") as said:
            self._running[name] = subprocess.Popen([path, *words], env=self.environment, stdout=said, stderr=said)

    def _wait(self, ready: Callable[[], object]) -> None:
        def there() -> object:
            ended = [name for name, process in self._running.items() if process.poll() is not None]
            said = {name: (self._folder / f"{name}.said").read_text()[-500:] for name in ended}
            assert not ended, f"SLURM does not start: {said}"
            return ready()

        until(there, 0.1)


@contextlib.contextmanager
def slurm(folder: Path, nodes: int = 1) -> Iterator[Slurm]:
    """One that ends with the block."""
    one = Slurm(folder, nodes)
    try:
        one.start()
        yield one
    finally:
        one.stop()


def missing() -> str:
    """Why there can be none here; empty where there can."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    gone = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if gone:
        return f"no {', '.join(gone)} here (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "SLURM's daemons are started by root alone"


def free_port() -> int:
    """Nobody listens there."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
