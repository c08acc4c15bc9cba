"""A gated model, a token in the environment, and a hub that answers: a real server, and the stage in a real process."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from project import ROOT

TOKEN = "hf_ThisMustNeverBeShown0123456789"
CASES = {
    "uni": (403, "GatedRepo", "gated, private or misspelt"),
    "phikon-v2": (400, "", "its weights cannot be fetched"),
}
"""Teacher: the hub's status, its code, and what is said of them."""
RUN = """
import sys, traceback
from pathlib import Path
from pipeline.params.tokens import TokensParams
from pipeline.base.store import Store
from pipeline.teachers.loading import load_teacher
for teacher in sys.argv[2:]:
    print("teacher:", teacher, flush=True)
    try:
        load_teacher(TokensParams(teacher=teacher), Store(Path(sys.argv[1])), 512)
    except Exception:
        traceback.print_exc()
"""


class Hub(BaseHTTPRequestHandler):
    """Refuses every file as the hub does, and repeats the token in its message as no hub should."""

    seen: list[tuple[str, str]] = []  # noqa: RUF012 the server makes an instance a request

    def do_GET(self):
        teacher = "phikon-v2" if "phikon" in self.path else "uni"
        status, code, _ = CASES[teacher]
        self.seen.append((teacher, self.headers.get("authorization", "")))
        body = json.dumps({"error": f"denied to {TOKEN}"}).encode()
        self.send_response(status)
        self.send_header("x-error-code", code)
        self.send_header("x-error-message", f"denied to {TOKEN}")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Hub.seen.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def said(hub, folder) -> dict[str, str]:
    """What one process that asks for each teacher prints of it, to both streams."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(folder / "hub"),
        "HF_DEBUG": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder / "store"), *CASES],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        cwd=ROOT,
    )
    before, *parts = done.stdout.split("teacher: ")
    return {name: f"{before}{part}" for name, part in zip(CASES, parts, strict=True)}


@pytest.mark.parametrize("teacher", CASES)
def test_the_token_is_used_and_never_shown(teacher, said, folder):
    assert "TeacherError" in said[teacher] and CASES[teacher][2] in said[teacher], said[teacher]
    assert "set HF_TOKEN" in said[teacher] and "ThisMustNeverBeShown" not in said[teacher]
    assert (teacher, f"Bearer {TOKEN}") in Hub.seen
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
