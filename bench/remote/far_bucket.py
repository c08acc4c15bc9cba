"""A proxy before an S3 server that answers as late as a bucket does, in a process of its own.

An object that has been asked for once is kept in memory and answered from there, by ranges: a bucket has cores of its
own, and the server behind this one would take them from what is measured. `/-/LATENCY_MS` sets how long each answer
waits, and answers with the requests and bytes since it was last set.
"""

from __future__ import annotations

import json
import re
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class _State:
    behind = 0
    latency_s = 0.0
    requests = 0
    nbytes = 0
    objects: ClassVar[dict[str, bytes]] = {}
    lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        if self.path.startswith("/-/"):
            self._set()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(_State.latency_s)
        found = self._of_memory() if self.command == "GET" else None
        status, headers, data = found or self._ask(body)
        with _State.lock:
            _State.requests, _State.nbytes = _State.requests + 1, _State.nbytes + len(data)
        self._answer(status, headers, data)

    def _set(self) -> None:
        with _State.lock:
            told = {"requests": _State.requests, "nbytes": _State.nbytes}
            _State.latency_s, _State.requests, _State.nbytes = float(self.path[3:]) / 1000, 0, 0
        self._answer(200, {}, json.dumps(told).encode())

    def _of_memory(self) -> tuple[int, dict[str, str], bytes] | None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if "/files/" not in self.path or asked is None:
            return None
        if self.path not in _State.objects:
            status, _, data = self._ask(b"", whole=True)
            if status != 200:
                return None
            _State.objects[self.path] = data
        whole, (first, last) = _State.objects[self.path], (int(asked[1]), int(asked[2]))
        data = whole[first : last + 1]
        return 206, {"Content-Range": f"bytes {first}-{first + len(data) - 1}/{len(whole)}", "ETag": '"x"'}, data

    def _ask(self, body: bytes, whole: bool = False) -> tuple[int, dict[str, str], bytes]:
        behind = HTTPConnection("127.0.0.1", _State.behind, timeout=60)
        left_out = {"connection", "content-length"} | ({"range"} if whole else set())
        sent = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
        behind.request(self.command, self.path, body, sent)
        answer = behind.getresponse()
        data = answer.read()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
        if self.command == "HEAD":
            headers["Content-Length"] = answer.getheader("Content-Length", "0")
        behind.close()
        return answer.status, headers, data

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing."""

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any


def serve(behind: int) -> None:
    """Before the server at that port; prints the port it listens on, and does not return."""
    _State.behind = behind
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        print(server.server_port, flush=True)
        server.serve_forever()
