"""A real S3 server (moto's) in a process of its own, and a proxy before it that does what networks and buckets do."""

from __future__ import annotations

import contextlib
import fcntl
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest
from made.processes import until
from made.python_server import loaded_python

from bench.remote.forwarding import Answer, Forwarding

_STARTED = list[subprocess.Popen[bytes]]()
"""In this process; they end with the server of Pythons that runs them."""
KEY, SECRET = "AKIAOFTHETESTS", "the-secret-of-the-tests"
Kind = Literal["cut", "503", "slow", "held", "truncated", "stale", "denied"]
_DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass
class Fault:
    """What happens to the next `times` requests whose "METHOD /path" matches the pattern.

    cut: the connection is closed after half of the answer. slow: the answer comes after 0.3 s. held: none comes and
    nothing is passed on, for as long as the client waits. truncated: a shorter object, as a whole one. stale: what the
    object was when it was first asked for. 503 and denied: as S3 says them.
    """

    kind: Kind
    pattern: str
    times: int = 1


@dataclass
class Proxy:
    """Where clients go, and what is to happen to them; `seen` are all requests, as "METHOD /path range"."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    first: dict[str, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, request: str) -> Kind | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and re.search(fault.pattern, request):
                    fault.times -= 1
                    return fault.kind
        return None

    def times_seen(self, pattern: str) -> int:
        """Requests that match."""
        return sum(re.search(pattern, request) is not None for request in self.seen)


def reach(proxy: Proxy, patch: pytest.MonkeyPatch) -> None:
    """The environment has a user's credentials and the way there."""
    patch.setenv("AWS_ACCESS_KEY_ID", KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", proxy.url)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def s3_server() -> int:
    """The port of the one server of a run, whichever of pytest's workers asks first; it ends as the run ends."""
    told = Path(loaded_python()).parents[1] / "s3"
    with open(told, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if not (port := file.read()):
            port = str(_start())
            file.write(port)
    return int(port)


def _start() -> int:
    port = _free_port()
    words = [loaded_python(), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(words, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)
    _STARTED.append(process)

    def answers() -> bool:
        assert process.poll() is None, "the S3 server does not start"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    until(answers, 0.05)
    return port


@contextlib.contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """A proxy before the server; it ends with the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
    server.proxy, server.behind = proxy, port  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(Forwarding):
    def handle_any(self) -> None:
        proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = f"{self.command} {self.path} {self.headers.get('Range', '')}".rstrip()
        proxy.seen.append(request)
        kind = proxy.next_fault(request)
        if kind in ("503", "denied"):
            self.answer(503 if kind == "503" else 403, {"Content-Type": "application/xml"}, _answer_of(kind))
            return
        if kind == "slow":
            time.sleep(0.3)
        if kind == "held":
            self.rfile.read(1)
            self.close_connection = True
            return
        if kind == "truncated" and self.command == "PUT":
            body = body[: len(body) // 2]
        status, headers, data = self._asked(body)
        if self.command == "GET":
            first = proxy.first.setdefault(request, data)
            data = first if kind == "stale" else data[: len(data) // 2] if kind == "truncated" else data
        if kind == "cut":
            self.send_response(status)
            self.send_header("Content-Length", str(max(len(data), 1)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.answer(status, headers, data)

    def _asked(self, body: bytes) -> Answer:
        cut = len(body) != int(self.headers.get("Content-Length", 0))
        # A body that was cut on its way and a server that takes it all the same: no checksum gives it away.
        sums = {name.lower() for name in self.headers if re.match(r"(?i)x-amz-checksum|content-md5", name)}
        return self.ask(self.server.behind, body, sums if cut else set())  # type: ignore[attr-defined]


def _answer_of(kind: Kind) -> bytes:
    return _BUSY if kind == "503" else _DENIED
