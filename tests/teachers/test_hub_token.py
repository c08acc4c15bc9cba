"""A gated model, a token in the environment, and a hub that answers: a real server, and the stage in a real process."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from project import ROOT

TOKEN = "hf_ThisMustNeverBeShown0123456789"
RUN = """
import sys
from pathlib import Path
from pipeline.params.tokens import TokensParams
from pipeline.base.store import Store
from pipeline.teachers.loading import load_teacher
load_teacher(TokensParams(teacher=sys.argv[1]), Store(Path(sys.argv[2])), 512)
"""


class Hub(BaseHTTPRequestHandler):
    """Refuses every file as the hub does, and repeats the token in its message as no hub should."""

    status, code = 403, "GatedRepo"
    seen: list[str] = []  # noqa: RUF012 the server makes an instance a request

    def do_GET(self):
        self.seen.append(self.headers.get("authorization", ""))
        body = json.dumps({"error": f"denied to {TOKEN}"}).encode()
        self.send_response(self.status)
        self.send_header("x-error-code", self.code)
        self.send_header("x-error-message", f"denied to {TOKEN}")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Hub.seen.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("teacher", "status", "code", "says"),
    [
        ("uni", 403, "GatedRepo", "gated, private or misspelt"),
        ("phikon-v2", 400, "", "its weights cannot be fetched"),
    ],
)
def test_the_token_is_used_and_never_shown(teacher, status, code, says, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(Hub, "status", status)
    monkeypatch.setattr(Hub, "code", code)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_DEBUG": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, teacher, str(tmp_path / "store")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1 and says in said and "set HF_TOKEN" in said, said
    assert f"Bearer {TOKEN}" in Hub.seen
    assert "ThisMustNeverBeShown" not in said
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
