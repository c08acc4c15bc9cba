"""Python as it is started, but from the server of python_server.py where that can run the words; it is what they run.

Imports next to nothing, since it is started in place of each command.
"""

import array
import json
import os
import socket
import sys

SOCKET = "LOADED_PYTHON_SOCKET"


def run(words: list[str]) -> int | None:
    """The exit status of the process that the server has made; None where it makes none."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(os.environ[SOCKET])
    asked = {
        "words": words,
        "cwd": os.getcwd(),  # noqa: PTH109
        "environment": dict(os.environ),
    }
    handles = array.array("i", (0, 1, 2))
    data = json.dumps(asked).encode() + b"\n"
    sent = server.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handles)])
    if sent < len(data):
        server.sendall(data[sent:])
    told = server.recv(64)
    return int(told) if told and told != b"no" else None


if __name__ == "__main__":
    status = run(sys.argv[1:])
    if status is None:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    if status < 0:
        os.kill(os.getpid(), -status)
    sys.exit(status)
