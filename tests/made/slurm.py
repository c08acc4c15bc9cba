"""A real SLURM of one node, started and ended by a test, with all that it writes in one folder."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
_CONF = """
ClusterName=made
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=shut Nodes={host} MaxTime=INFINITE State=DOWN
"""


class Slurm:
    """Its daemons; `conf` is what SLURM_CONF has to say."""

    def __init__(self, folder: Path) -> None:
        self.conf, self._folder, self._running = folder / "slurm.conf", folder, dict[str, subprocess.Popen[bytes]]()

    def start(self) -> None:
        """All three daemons, ready for jobs. Raises AssertionError with what they said where they are not."""
        munge = self._folder / "munge"
        for name in ("munge", "state", "spool"):
            (self._folder / name).mkdir(mode=0o700)
        (munge / "key").write_bytes(os.urandom(1024))
        (munge / "key").chmod(0o400)
        named = [f"--{name}-file={munge}/{name}" for name in ("key", "pid", "log", "seed")]
        self._run("munged", "--foreground", "--force", f"--socket={munge}/socket", *named)
        self._wait(lambda: (munge / "socket").exists())
        host = platform.node().partition(".")[0]
        self.conf.write_text(_CONF.format(folder=self._folder, host=host, ports=[_free_port(), _free_port()]))
        self._run("slurmctld", "-D", "-c")
        self._run("slurmd", "-D", "-N", host)
        self._wait(lambda: "idle" in self.ask("sinfo", "-h", "-p", "main"))

    def ask(self, *words: str) -> str:
        """What a command of SLURM's says."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout

    def jobs(self) -> list[str]:
        """The numbers of those that wait or run; one that is being put away does not count."""
        lines = self.ask("squeue", "-h", "-o", "%i %t").splitlines()
        return [number for number, state in map(str.split, lines) if state != "CG"]

    def kill(self, program: str) -> None:
        """kill -9."""
        self._running[program].kill()
        self._running.pop(program).wait()

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def stop(self) -> None:
        if self.conf.is_file():
            self.ask("scancel", *self.jobs()) if self.jobs() else None
        for program in reversed(list(self._running)):
            self._running[program].terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running[program].wait(5)
            self.kill(program)

    def _run(self, program: str, *words: str) -> None:
        path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
        assert path, f"there is no {program}"
        with open(self._folder / f"{program}.said", "wb") as said:
            self._running[program] = subprocess.Popen([path, *words], env=self.environment, stdout=said, stderr=said)

    def _wait(self, ready: object) -> None:
        deadline = time.monotonic() + 30
        while not ready():  # type: ignore[operator]
            said = {program: (self._folder / f"{program}.said").read_text()[-500:] for program in self._running}
            ended = [program for program, process in self._running.items() if process.poll() is not None]
            assert not ended and time.monotonic() < deadline, f"SLURM does not start: {ended} {said}"
            time.sleep(0.1)


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """One that ends with the block."""
    one = Slurm(folder)
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


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
