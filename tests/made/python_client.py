"""Python as it is started, but from the server of python_server.py where that can run the words; it is what they run.

Imports next to nothing, since it is started in place of each command. Whatever file it was given open is given on, at
the same number: by such ones Python's own multiprocessing speaks with its processes.
"""

import array
import contextlib
import json
import os
import signal
import socket
import sys

SOCKET = "LOADED_PYTHON_SOCKET"


def run(words: list[str]) -> int | None:
    """The exit status of the process that the server has made, negative a signal's; None where it makes none."""
    places = [place for place in map(int, os.listdir("/proc/self/fd")) if _is_open(place)]  # noqa: PTH208
    handles = array.array("i", places)
    server = socket.socket(socket.AF_UNIX)
    server.connect(os.environ[SOCKET])
    asked = {
        "words": words,
        "cwd": os.getcwd(),  # noqa: PTH109
        "environment": dict(os.environ),
        "places": places,
    }
    data = json.dumps(asked).encode() + b"\n"
    sent = server.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handles)])
    if sent < len(data):
        server.sendall(data[sent:])
    told = server.makefile()
    pid = told.readline()
    if pid in ("", "no\n"):
        return None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: _send(int(pid), number))
    ended = told.readline()
    # A process that was killed tells nothing.
    return int(ended) if ended else 128 + signal.SIGKILL


def _send(pid: int, number: int) -> None:
    """What this process is told is told to the other."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_open(place: int) -> bool:
    """The one by which the folder was listed is not."""
    try:
        return os.get_inheritable(place)
    except OSError:
        return False


if __name__ == "__main__":
    status = run(sys.argv[1:])
    if status is None:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    sys.exit(status)
