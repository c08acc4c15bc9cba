"""`histill doctor` in states that are really broken: each is named, with a remedy that mends it."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml
from imports import ROOT
from made.checkout import git
from made.command import histill
from small_disk import small_disk

from pipeline.machine.hardware import hardware
from pipeline.machine.weights import weights
from pipeline.params.tokens import TokensParams

Findings = dict[str, dict[str, str]]
Look = Callable[..., tuple[int, Findings]]
BIN = Path(sys.executable).parent


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in which all is well."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "slides.csv").write_text("path\ndemo:1\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "a")
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("HISTILL_STORE", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path


@pytest.fixture
def look(project: Path) -> Look:
    """The exit code and the findings by name."""

    def look(**environment: str) -> tuple[int, Findings]:
        done = histill(project, "doctor", "--json", **environment)
        told = json.loads(done.stdout)
        assert told["can_run"] == (done.returncode == 0)
        return done.returncode, {finding["what"]: finding for finding in told["findings"]}

    return look


def configure(project: Path, section: str, **values: object) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params[section].update(values)
    (project / "params.yaml").write_text(yaml.safe_dump(params))


def test_where_all_is_well_the_pipeline_can_run(look: Look, project: Path) -> None:
    code, found = look()
    assert code == 0 and not [finding for finding in found.values() if finding["level"] == "stops"]
    assert "library 4" in found["openslide"]["found"] and found["git"]["level"] == found["dvc"]["level"] == "ok"
    assert not (project / ".store").exists(), "looking makes nothing"
    told = histill(project, "doctor").stdout.splitlines()
    assert told[-1].startswith("the configured pipeline can run") and "\x1b" not in "".join(told)


def test_without_a_project_nothing_can_run(tmp_path: Path) -> None:
    done = histill(tmp_path, "doctor")
    assert done.returncode == 1 and "the configured pipeline cannot run" in done.stdout


def test_a_mistake_in_params_yaml(look: Look, project: Path) -> None:
    configure(project, "tiles", tile_pix=3)
    code, found = look()
    assert code == 1 and "tile_px" in found["params"]["mend"]


def test_a_store_that_is_read_only_full_or_a_file(look: Look, project: Path) -> None:
    (project / "file").write_text("")
    code, found = look(HISTILL_STORE=str(project / "file" / "store"))
    assert code == 1 and "is a file" in found["store"]["found"]
    with small_disk(project / "disk", "1m") as disk:
        code, found = look(HISTILL_STORE=str(disk))
        assert code == 1 and found["store.free"]["level"] == "stops" and found["store"]["level"] == "ok"
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        code, found = look(HISTILL_STORE=str(disk))
        assert code == 1 and found["store"]["found"].endswith("Read-only file system")
        # The remedy.
        assert look(HISTILL_STORE=str(project / "own"), HISTILL_STORE_BASE=str(disk))[0] == 0


def test_a_group_s_store_and_a_umask_that_keeps_files_from_it(look: Look, project: Path) -> None:
    (project / ".store").mkdir()
    (project / ".store").chmod(0o2770)
    before = os.umask(0o077)
    try:
        code, found = look()
        assert code == 1 and found["store.group"]["mend"].startswith("umask 002")
        os.umask(0o002)
        code, found = look()
        assert code == 0 and found["store.group"]["level"] == "ok" and "flock works" in found["store.locks"]["found"]
    finally:
        os.umask(before)


def test_few_open_files() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        found = {finding.what: finding for finding in hardware(["demo"])}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found["open files"].level == "costs" and "1024" in found["open files"].mend
    assert {finding.what: finding for finding in hardware(["demo"])}["open files"].found == str(before[0])


def test_no_git_no_repository_no_dvc(look: Look, project: Path, tmp_path: Path) -> None:
    alone = tmp_path / "bin"
    alone.mkdir()
    (alone / "dvc").symlink_to(BIN / "dvc")
    code, found = look(PATH=str(alone))
    assert code == 0 and found["git"]["level"] == "costs", "stages run without it"
    (alone / "dvc").unlink()
    code, found = look(PATH=str(alone))
    assert code == 1 and found["dvc"]["found"] == "not found"
    shutil.rmtree(project / ".git")
    code, found = look()
    assert code == 1 and "not a git repository" in found["git"]["found"]
    # The remedy for a project without git.
    (project / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    assert look()[0] == 0


def test_slides_that_are_not_there(look: Look, project: Path) -> None:
    (project / "slides.csv").write_text("path\ndemo:1\ngone.svs\n")
    code, found = look()
    assert code == 0 and found["slides"]["level"] == "costs" and "gone" in found["slides"]["found"]
    (project / "slides.csv").write_text("path\ngone.svs\n")
    assert look()[0] == 1
    (project / "slides.csv").unlink()
    assert look()[1]["slides"]["level"] == "stops"


def test_weights_that_are_missing(look: Look, project: Path) -> None:
    configure(project, "tokens", teacher="tf_efficientnet_lite2", weights="gone.safetensors")
    code, found = look()
    assert code == 1 and "No such file" in found["teacher"]["found"] and "gone.safetensors" in found["teacher"]["found"]
    (project / "gone.safetensors").write_bytes(b"x")
    assert look()[0] == 0


@pytest.mark.skipif(importlib.util.find_spec("torch_tensorrt") is not None, reason="TensorRT is installed")
def test_an_engine_that_is_asked_for_and_not_installed(look: Look, project: Path) -> None:
    configure(project, "tokens", engine="tensorrt")
    code, found = look()
    assert code == 1 and found["tensorrt"]["level"] == "stops"
    configure(project, "tokens", engine="auto", also=[{"teacher": "vit_tiny_patch16_224", "engine": "tensorrt"}])
    code, found = look()
    assert code == 1 and "vit_tiny_patch16_224" in found["tensorrt"]["cost"]


def test_a_package_that_does_not_import(look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text("raise ImportError('libtbb.so.12: cannot open')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    code, found = look()
    assert code == 0 and found["openvino"]["level"] == "costs" and "libtbb" in found["openvino"]["found"]


class Hub(BaseHTTPRequestHandler):
    """Has one open model, whose weights are a .bin, and one that is gated."""

    def do_HEAD(self) -> None:
        gated = "UNI" in self.path
        status = 403 if gated else 200 if self.path.endswith("pytorch_model.bin") else 404
        self.send_response(status)
        self.send_header("x-error-code", "GatedRepo" if gated else "EntryNotFound" if status == 404 else "")
        if status == 200:
            self.send_header("x-repo-commit", "0" * 40)
            self.send_header("etag", '"1"')
        self.send_header("content-length", "5000000" if status == 200 else "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield
    server.shutdown()
    server.server_close()


def test_what_the_hub_gives(hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ThisMustNeverBeShown0123456789")
    token, teacher = weights(TokensParams(teacher="uni"))
    assert token.level == "ok" and teacher.level == "stops" and "gated" in teacher.found
    assert "hf_" not in teacher.model_dump_json()
    (_, teacher) = weights(TokensParams(teacher="hf-hub:somebody/open"))
    assert teacher.level == "ok" and teacher.found.endswith("5 MB")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "/nowhere")
    assert weights(TokensParams(teacher="uni"))[0].level == "costs"
    # Each teacher is looked at, not the first alone.
    token, first, second = weights(TokensParams(teacher="hf-hub:somebody/open", also=[{"teacher": "uni"}]))
    assert token.level == "costs" and "uni" in token.cost and "MahmoodLab/UNI" in token.mend
    assert first.level == "ok" and second.level == "stops" and "uni" in second.found


def test_a_hub_that_is_not_reached(hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    (_, teacher) = weights(TokensParams(teacher="hf-hub:somebody/open"))
    assert teacher.level == "stops" and "not reached" in teacher.found
