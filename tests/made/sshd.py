"""A real sshd on loopback, with keys of its own, that lets this user in."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from made.processes import until
from made.slurm import free_port

_PATH = f"{os.environ['PATH']}:/usr/sbin"
_CONF = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
SetEnv {environment}
"""


def missing() -> str:
    """Why there can be none here; empty where there can."""
    gone = [program for program in ("sshd", "ssh-keygen") if shutil.which(program, path=_PATH) is None]
    return f"no {', '.join(gone)} here (Debian: openssh-server)" if gone else ""


@contextlib.contextmanager
def sshd(folder: Path, environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """With what asyncssh connects to it; what it starts finds that environment. It ends with the block."""
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    port, conf = free_port(), folder / "conf"
    told = " ".join(f'"{name}={value}"' for name, value in environment.items())
    conf.write_text(_CONF.format(port=port, folder=folder, environment=told))
    if os.geteuid() == 0:
        # Where it parts with its rights; a package's start script would make it.
        Path("/run/sshd").mkdir(exist_ok=True)
    program = shutil.which("sshd", path=_PATH)
    assert program
    with open(folder / "said", "wb") as said:
        daemon = subprocess.Popen([program, "-D", "-e", "-f", str(conf)], stdout=said, stderr=said)
    try:
        until(lambda: _answers(port) or daemon.poll() is not None, 0.05)
        assert daemon.poll() is None, (folder / "said").read_text()
        client = {"username": getpass.getuser(), "client_keys": [str(folder / "user")], "known_hosts": None}
        yield {"port": port, **client}
    finally:
        daemon.terminate()
        daemon.wait()


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
