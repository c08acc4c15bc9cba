"""`precision: auto` takes what the store has."""

from __future__ import annotations

from pathlib import Path

import pytest
from made.tiles import tiles_json

from pipeline.base.store import Store
from pipeline.tokens.stage import make_tokens


def test_what_a_gpu_has_answered_is_used_where_there_is_none(
    tiny_params, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """On this CPU `auto` alone would be fp32; a colleague's bf16 tokens are in a store that cannot be written."""
    base, own = Store(tmp_path / "base"), Store(tmp_path / "own", [tmp_path / "base"])
    tiles = tiles_json(base, {"a": 8, "b": 3})
    theirs = make_tokens(tiles, tiny_params.model_copy(update={"precision": "bf16"}), base, 512)
    before = sorted(path.stat().st_mtime_ns for path in base.root.rglob("*"))
    auto = tiny_params.model_copy(update={"precision": "auto"})
    mine = make_tokens(tiles, auto, own, 512)
    assert mine.model_dump() == theirs.model_dump()
    assert "precision auto -> bf16: the store has 11 of 11 tiles in it" in capfd.readouterr().err
    assert list(own.own_refs()) == [] and sorted(path.stat().st_mtime_ns for path in base.root.rglob("*")) == before
    alone = make_tokens(tiles_json(Store(tmp_path / "alone"), {"a": 8}), auto, Store(tmp_path / "alone"), 512)
    assert alone.precision == "fp32"
