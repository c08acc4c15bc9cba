"""A hub's folder: timm takes it by `hf-hub:` from a server and from a disk, and its card says whose licence holds."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
import yaml
from made.exported import SIDE_PX
from typer.testing import CliRunner

from pipeline.base.errors import ExportError
from pipeline.export.hub import best_card, export_hub
from pipeline.export.metadata import Metadata, metadata_of
from pipeline.student.shipped import Shipped
from stages.cli.app import cli

REPO = "lab/student"


@pytest.fixture(scope="module")
def folder(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hub") / "folder"
    export_hub(student, out, metadata_of(Shipped.of_folder(student)), repo=REPO)
    return out


class Hub(BaseHTTPRequestHandler):
    """Gives the files of a repository as the hub does: by name, with commit and ETag."""

    root: Path

    def do_GET(self) -> None:
        name = self.path.split("?")[0].removeprefix(f"/{REPO}/resolve/main/")
        file = self.root / name
        if not file.is_file():
            self.send_response(404)
            self.send_header("x-error-code", "EntryNotFound")
            self.send_header("content-length", "0")
            self.end_headers()
            return
        body = file.read_bytes()
        self.send_response(200)
        self.send_header("x-repo-commit", "0" * 40)
        self.send_header("etag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    Hub.root = folder
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def hub(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to which the hub's own client brings files from the server: told what it reads of HF_ENDPOINT, …"""
    told = {"ENDPOINT": server, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": False, "HF_TOKEN_PATH": "/nowhere"}
    url = server + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {**told, "HUGGINGFACE_CO_URL_TEMPLATE": url}.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path


def test_timm_takes_it_from_a_hub_as_it_takes_the_student(hub: Path, student: Path) -> None:
    answers = []
    for name in (f"hf-hub:{REPO}", f"local-dir:{student}"):
        model = timm.create_model(name, pretrained=True).eval()
        config = timm.data.resolve_model_data_config(model)
        assert [*config["mean"], *config["std"]] == [0.5] * 6 and list(config["input_size"]) == [3, SIDE_PX, SIDE_PX]
        assert config["crop_pct"] == 1.0
        with torch.inference_mode():
            answers.append(model(torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64))[0].numpy())
    np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-6)
    assert len(list(hub.glob("models--lab--student/snapshots/*/model.safetensors"))) == 1


def block_of(card: str) -> dict[str, object]:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_says_whose_licence_holds_and_how_it_is_loaded(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    block = block_of(card)
    assert (block["license"], block["base_model"], block["library_name"]) == (
        "cc-by-nc-nd-4.0",
        "MahmoodLab/UNI",
        "timm",
    )
    assert card.count("---\n") == 2 and f'"hf-hub:{REPO}"' in card and "models/student" not in card
    timm.create_model(f"local-dir:{folder}", pretrained=True)


@pytest.mark.parametrize(
    ("first", "also", "licence", "base"),
    [
        ("h-optimus-0", ["uni"], "cc-by-nc-nd-4.0", ("bioptimus/H-optimus-0", "MahmoodLab/UNI")),
        ("uni", ["h-optimus-0", "demo"], "cc-by-nc-nd-4.0", ("MahmoodLab/UNI", "bioptimus/H-optimus-0")),
        ("h-optimus-0", ["gigapath"], "other", ("bioptimus/H-optimus-0", "prov-gigapath/prov-gigapath")),
        ("h-optimus-0", ["tf_efficientnet_lite2"], "other", "bioptimus/H-optimus-0"),
    ],
)
def test_of_several_teachers_the_strictest_licence_rules(
    first: str, also: list[str], licence: str, base: str | tuple[str, ...], student: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "student"
    shutil.copytree(student, copy)
    config = json.loads((copy / "config.json").read_text())
    config["histill"] |= {"teacher": first, "also": also}
    (copy / "config.json").write_text(json.dumps(config))
    found = metadata_of(Shipped.of_folder(copy))
    assert (found.licence, found.base_model) == (licence, base)
    told = block_of(found.block())["base_model"]
    assert told == (list(base) if isinstance(base, tuple) else base)


@pytest.mark.parametrize(
    ("teacher", "licence", "base", "link"),
    [
        ("h-optimus-0", "apache-2.0", "bioptimus/H-optimus-0", None),
        ("phikon-v2", "other", "owkin/phikon-v2", "https://huggingface.co/owkin/phikon-v2"),
        ("hf-hub:lab/vit", "other", "lab/vit", "https://huggingface.co/lab/vit"),
        ("tf_efficientnet_lite2", "other", None, None),
    ],
)
def test_the_block_follows_the_teacher(
    teacher: str, licence: str, base: str | None, link: str | None, student: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "student"
    shutil.copytree(student, copy)
    config = json.loads((copy / "config.json").read_text())
    config["histill"]["teacher"] = teacher
    (copy / "config.json").write_text(json.dumps(config))
    found = metadata_of(Shipped.of_folder(copy))
    assert (found.licence, found.base_model, found.licence_link) == (licence, base, link)
    given = metadata_of(Shipped.of_folder(copy), "lab/other", "mit", ["lab/slides"])
    assert (given.licence, given.base_model, given.datasets) == ("mit", "lab/other", ("lab/slides",))
    assert block_of(given.block())["datasets"] == ["lab/slides"]
    with pytest.raises(ExportError, match="OWNER/NAME"):
        metadata_of(Shipped.of_folder(copy), datasets=["slides"])


def test_the_report_s_card_is_taken_where_it_is_of_the_same_run(student: Path, tmp_path: Path) -> None:
    own, shipped = (student / "README.md").read_text(), Shipped.of_folder(student)
    head, _, tail = own.partition("## Figures")
    figured = tmp_path / "model_card.md"
    figured.write_text(head + "## Figures\n\n| measure |\n\n" + tail[tail.index("## Intended use") :])
    assert best_card(shipped, figured) == figured.read_text()
    figured.write_text(figured.read_text().replace("epochs", "eons"))
    assert best_card(shipped, figured) == own


def test_what_is_there_is_kept(student: Path, folder: Path, tmp_path: Path) -> None:
    out, metadata = tmp_path / "clone", Metadata("mit")
    out.mkdir()
    (out / ".gitattributes").write_text("*.safetensors filter=lfs")
    assert len(export_hub(student, out, metadata).written) == 3
    assert export_hub(student, out, metadata).written == ()
    (out / "README.md").write_text("mine")
    with pytest.raises(ExportError, match=r"other files are there: README\.md(?s:.)*--replace"):
        export_hub(student, out, metadata)
    assert (out / "README.md").read_text() == "mine"
    assert export_hub(student, out, metadata, replace=True).written == ("README.md",)
    assert {path.name for path in tmp_path.iterdir()} == {"clone"} and (out / ".gitattributes").exists()


def test_the_command_says_what_it_wrote_and_asks_after_the_licence(student: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(cli, ["export", "hub", str(tmp_path / "hub"), "--student", str(student), "--repo", REPO])
    assert run.exit_code == 0 and f"hf upload {REPO}" in run.output, run.output
    assert "licence cc-by-nc-nd-4.0, of MahmoodLab/UNI" in run.output and "has no figures" in run.output
