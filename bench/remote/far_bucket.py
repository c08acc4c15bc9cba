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
from http.server import ThreadingHTTPServer
from typing import ClassVar

from bench.remote.forwarding import Answer, Forwarding


class _State:
    behind = 0
    latency_s = 0.0
    requests = 0
    nbytes = 0
    objects: ClassVar[dict[str, bytes]] = {}
    lock = threading.Lock()


class _Handler(Forwarding):
    def handle_any(self) -> None:
        if self.path.startswith("/-/"):
            self._set()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(_State.latency_s)
        found = self._of_memory() if self.command == "GET" else None
        status, headers, data = found or self.ask(_State.behind, body)
        with _State.lock:
            _State.requests, _State.nbytes = _State.requests + 1, _State.nbytes + len(data)
        self.answer(status, headers, data)

    def _set(self) -> None:
        with _State.lock:
            told = {"requests": _State.requests, "nbytes": _State.nbytes}
            _State.latency_s, _State.requests, _State.nbytes = float(self.path[3:]) / 1000, 0, 0
        self.answer(200, {}, json.dumps(told).encode())

    def _of_memory(self) -> Answer | None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if "/files/" not in self.path or asked is None:
            return None
        if self.path not in _State.objects:
            status, _, data = self.ask(_State.behind, b"", {"range"})
            if status != 200:
                return None
            _State.objects[self.path] = data
        whole, (first, last) = _State.objects[self.path], (int(asked[1]), int(asked[2]))
        data = whole[first : last + 1]
        return 206, {"Content-Range": f"bytes {first}-{first + len(data) - 1}/{len(whole)}", "ETag": '"x"'}, data


def serve(behind: int) -> None:
    """Before the server at that port; prints the port it listens on, and does not return."""
    _State.behind = behind
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        print(server.server_port, flush=True)
        server.serve_forever()
