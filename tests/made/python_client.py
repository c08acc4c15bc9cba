"""Python as it is started, but from the server of python_server.py where that can run the words; it is what they run.

Imports next to nothing, since it is started in place of each command: `socket`, `json` and `signal` are half of what a
start takes. Whatever file it was given open is given on, at the same number: by such ones Python's own multiprocessing
speaks with its processes.
"""

import _signal
import _socket
import array
import marshal
import os
import sys

SOCKET = "LOADED_PYTHON_SOCKET"


def run(words: list[str]) -> int | None:
    """The exit status of the process that the server has made, negative a signal's; None where it makes none."""
    places = [place for place in map(int, os.listdir("/proc/self/fd")) if _is_open(place)]  # noqa: PTH208
    handles = array.array("i", places)
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    server.connect(os.environ[SOCKET])
    asked = {
        "words": words,
        "cwd": os.getcwd(),  # noqa: PTH109
        "environment": dict(os.environ),
        "places": places,
    }
    content = marshal.dumps(asked)
    data = b"%d\n%s" % (len(content), content)
    sent = server.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, handles)])
    if sent < len(data):
        server.sendall(data[sent:])
    pid = _line(server)
    if pid in (b"", b"no"):
        return None
    for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
        _signal.signal(number, lambda number, _: _send(int(pid), number))
    ended = _line(server)
    # A process that was killed tells nothing.
    return int(ended) if ended else 128 + _signal.SIGKILL


def _line(server: _socket.socket) -> bytes:
    """What the server says next, without its end."""
    line = b""
    while (byte := server.recv(1)) not in (b"\n", b""):
        line += byte
    return line


def _send(pid: int, number: int) -> None:
    """What this process is told is told to the other."""
    try:  # noqa: SIM105
        os.kill(pid, number)
    except ProcessLookupError:
        pass


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
        _signal.signal(-status, _signal.SIG_DFL) if -status != _signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    sys.exit(status)
