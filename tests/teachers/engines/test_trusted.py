"""Which built engines are loaded: loading one runs code."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pipeline.base.store import Store
from pipeline.teachers.engines import trusted

FILE = "trunk.ep"


def build(store: Store) -> Path:
    ref = trusted.place("recipe")
    with store.write(ref, {}) as folder:
        (folder / FILE).write_bytes(b"built")
    return store.path(ref) / FILE


def test_an_engine_is_loaded_by_its_maker_or_by_who_was_told_to_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, mine = Store(tmp_path / "shared"), Store(tmp_path / "mine", [tmp_path / "shared"])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "alice"))
    path = build(shared)
    assert trusted.find(shared, "recipe", FILE) is None, "built by nobody known"
    trusted.remember(path)
    assert trusted.find(shared, "recipe", FILE) == trusted.find(mine, "recipe", FILE) == path
    assert trusted.find(shared, "another", FILE) is None
    ledger = tmp_path / "alice" / "histill" / "engines"
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600
    path.write_bytes(b"bad!!")
    assert trusted.find(shared, "recipe", FILE) is None, "not what was built"
    path.write_bytes(b"built")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "bob"))
    assert trusted.find(mine, "recipe", FILE) is None
    assert trusted.find(Store(mine.root, mine.bases, trust=True), "recipe", FILE) == path
    own = build(mine)
    trusted.remember(own)
    # Of the same bytes as Alice's, which are therefore no danger either.
    assert trusted.find(mine, "recipe", FILE) in (own, path)
