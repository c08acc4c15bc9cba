"""`histill store verify` after a byte of the store has flipped: it names the slide and the rows."""

import json
import subprocess
from pathlib import Path

import pytest
from made.command import histill
from made.tiles import tiles_json

from pipeline.base.store import Ref
from pipeline.tokens.item import writer
from pipeline.tokens.stage import make_tokens


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


@pytest.fixture
def project(tiny_params, store, tmp_path, monkeypatch):
    """Two slides of 10 tiles in chunks of 5, in a project whose workspace names them; (its folder, tokens.json)."""
    monkeypatch.setattr(writer, "CHUNK_ROWS_MAX", 5)
    tiles = tiles_json(store, {"one": 10, "two": 10})
    tokens = make_tokens(tiles, tiny_params, store, 512)
    (tmp_path / ".dvc").mkdir()
    tiles.save(tmp_path / "artifacts" / "tiles.json")
    tokens.save(tmp_path / "artifacts" / "tokens.json")
    return tmp_path, tiles, tokens


def verify(project: Path, store) -> subprocess.CompletedProcess[str]:
    return histill(project, "store", "verify", HISTILL_STORE=str(store.root))


def test_a_flipped_byte_is_named_by_slide_and_rows(project, store):
    folder, tiles, tokens = project
    assert verify(folder, store).returncode == 0
    item = store.path(Ref("tokens", tokens.recipe_key, tokens.item("one").key))
    flip(item / "patch" / "c.0.0.0.0", 5 * 16 * 24 + 700)
    flip(store.path(Ref("tiles", tiles.recipe_key, tiles.item("two").key)) / "jpeg" / "c" / "0", 40)
    found = verify(folder, store)
    assert found.returncode == 3
    lines = [line for line in found.stdout.splitlines() if line.startswith("corrupt")]
    assert len(lines) == 2
    assert "slide two" in lines[0] and "jpeg/c/0 (rows 0-9) has another checksum" in lines[0]
    assert "slide one" in lines[1] and "patch/c.0.0.0.0 (rows 5-9) has another checksum" in lines[1]


def test_a_file_without_rows_and_broken_metadata_are_named_too(project, store):
    folder, _, tokens = project
    item = store.path(Ref("tokens", tokens.recipe_key, tokens.item("two").key))
    (item / "patch" / "zarr.json").write_text("{")
    flip(item / "patch" / "c.0.0.0.0", 3)
    told = json.loads(histill(folder, "store", "verify", "--json", HISTILL_STORE=str(store.root)).stdout)
    (wrong,) = told["corrupt"]
    assert wrong["slide"] == "two" and "rows unknown" in wrong["what"] and "delete" in wrong["fix"]
    (line,) = [line for line in verify(folder, store).stdout.splitlines() if line.startswith("corrupt")]
    assert "patch/c.0.0.0.0 (rows unknown: the metadata is broken too)" in line
    assert "patch/zarr.json has 1 bytes" in line
