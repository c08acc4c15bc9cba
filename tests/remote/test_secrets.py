"""A user's credentials are in no file that a run leaves, here or in the bucket, nor in what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made.bucket import KEY, SECRET, Fault, Proxy
from made.slides import make_slide, tissue_picture
from typer.testing import CliRunner

from pipeline.remote import objects
from pipeline.remote.objects import Objects
from stages.cli.app import cli

TOKEN = "the-session-token-of-the-tests"
PARAMS = {
    "slides": {"table": "slides.csv"},
    "tiles": {"tile_px": 64, "min_sharpness": 0, "tissue": {"mask_mpp": 4, "min_area_mm2": 0.001}},
    "cluster": {"workers": 1},
}


def test_no_credential_is_in_any_file_of_a_run_or_said(
    tmp_path: Path, url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(objects, "PAUSES_S", (0.0,))
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("HISTILL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("HISTILL_STORE_REMOTE", url)
    monkeypatch.chdir(tmp_path)
    Objects(url).put("slides/a.tif", make_slide(tmp_path / "a.tif", tissue_picture(512, 512)))
    Path("slides.csv").write_text(
        f"path,slide_id,split\n{url}/slides/a.tif,a,train\n{url}/slides/gone.tif,gone,train\n"
    )
    Path("params.yaml").write_text(json.dumps(PARAMS))
    said = []

    def run(*words: str, code: int, denied: str = "") -> None:
        if denied:
            proxy.faults.append(Fault("denied", denied, times=999))
        done = CliRunner().invoke(cli, [*words, "--debug"])
        proxy.faults.clear()
        # With --debug an error comes through as it was raised.
        assert done.exit_code == code, done.output
        said.append(f"{done.output}{done.exception!r}")

    run("slides", code=1)
    Path("slides.csv").write_text(f"path,slide_id,split\n{url}/slides/a.tif,a,train\n")
    run("slides", code=0)
    run("tiles", code=0, denied="PUT")
    run("store", "push", "--all", code=3, denied="PUT")
    run("store", "push", "--all", code=0)
    monkeypatch.setenv("HISTILL_STORE", str(tmp_path / "other"))
    run("store", "pull", "--all", code=3, denied="GET .*/files/")
    run("store", "pull", "--all", code=0)
    run("store", "status", "--all", code=0)

    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    there = {name: Objects(url).read(name) for name in Objects(url).below()}
    assert len(written) > 30 and len(there) > 5 and any("other" in path.parts for path in written)
    told = "".join([*said, *capfd.readouterr()]).encode()
    assert b"refuses" in told
    for secret in (KEY, SECRET, TOKEN):
        found = [str(name) for name, data in (written | there).items() if secret.encode() in data]
        assert not found and secret.encode() not in told
