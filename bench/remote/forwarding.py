"""What a proxy before an S3 server is made of: a request is handed on, and an answer is handed back."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Forwarding(BaseHTTPRequestHandler):
    """Every request is `handle_any`'s, which a proxy writes with these two."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def ask(self, port: int, body: bytes, without: AbstractSet[str] = frozenset()) -> Answer:
        """What the server at that port answers to this request, with its headers but for `without` (lower case)."""
        behind = HTTPConnection("127.0.0.1", port, timeout=60)
        left_out = {"connection", "content-length"} | without
        sent = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
        behind.request(self.command, self.path, body, sent)
        answer = behind.getresponse()
        data = answer.read()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
        if self.command == "HEAD":
            headers["Content-Length"] = answer.getheader("Content-Length", "0")
        behind.close()
        return answer.status, headers, data

    def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        """Hand it to whoever asked."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_any(self) -> None:
        """A request of any method."""
        raise NotImplementedError

    def log_message(self, *_: object) -> None:
        """Nothing: the proxy counts what is asked."""

    def do_GET(self) -> None:
        """As each of the others."""
        self.handle_any()

    do_PUT = do_HEAD = do_POST = do_DELETE = do_GET
