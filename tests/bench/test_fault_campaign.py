"""What the campaign of faults calls wrong: it must see each byte, each item and the manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.campaign import differing, leftovers
from pipeline.base.store import Ref, Store


@pytest.fixture
def projects(tmp_path: Path) -> tuple[Path, Path]:
    """An undisturbed run's project and one that came to the same."""
    whole, trial = tmp_path / "whole", tmp_path / "trial"
    for key in ("a", "b"):
        with Store(whole / ".store").write(Ref("tiles", "r", key), {}) as folder:
            (folder / "jpeg").write_bytes(key.encode() * 10)
    (whole / "artifacts").mkdir()
    (whole / "artifacts" / "tiles.json").write_text("{}")
    shutil.copytree(whole, trial)
    return whole, trial


def test_equal_runs_do_not_differ(projects: tuple[Path, Path]) -> None:
    assert list(differing(*projects, "tiles")) == []


def test_a_wrong_byte_a_missing_and_an_unknown_item_and_another_manifest_are_seen(projects: tuple[Path, Path]) -> None:
    whole, trial = projects
    items = trial / ".store" / "tiles" / "r"
    (items / "a" / "jpeg").write_bytes(b"a" * 9 + b"b")
    (items / "b").rename(items / "c")
    (trial / "artifacts" / "tiles.json").write_text("{ }")
    assert sorted(differing(whole, trial, "tiles")) == [
        "artifacts/tiles.json differs",
        "tiles/r/a: jpeg has another checksum",
        "tiles/r/b is missing",
        "tiles/r/c is of no undisturbed run",
    ]


def test_an_item_that_is_whole_but_another_is_seen(projects: tuple[Path, Path]) -> None:
    whole, trial = projects
    store, ref = Store(trial / ".store"), Ref("tiles", "r", "a")
    store.delete(ref)
    with store.write(ref, {}) as folder:
        (folder / "jpeg").write_bytes(b"c" * 10)
    assert list(differing(whole, trial, "tiles")) == ["tiles/r/a differs"]


def test_what_no_item_is_of_is_seen_as_left(projects: tuple[Path, Path]) -> None:
    whole, store = projects[0], Store(projects[1] / ".store")
    with store.write(Ref("tiles", "r", "c"), {}):
        (name,) = (path.name for path in (store.root / "tiles" / "r" / ".partials" / "c").glob("*.owner"))
        partial = f"tiles/r/.partials/c/{name.removesuffix('.owner')}"
        assert leftovers(store.root) == ["tiles/r/.partials/c", partial, f"tiles/r/.partials/c/{name}"]
    (store.root / "tiles" / "r" / ".recipe.json.0123").touch()
    assert leftovers(store.root) == ["tiles/r/.recipe.json.0123"]
    assert leftovers(whole / ".store") == []
