"""A store over others that are only read."""

from __future__ import annotations

from pathlib import Path

import pytest
from made.checkout import KEY, RECIPE, project, put
from made.partials import partials
from typer.testing import CliRunner

from pipeline.base.errors import StoreError
from pipeline.base.store import Ref, Store
from pipeline.params.site import StoreParams
from stages.cli.store import store_cli


@pytest.fixture
def over(tmp_path: Path) -> Store:
    """A store with item c of its own over one with a and b and one with b and d."""
    for name, items in (("first", "ab"), ("second", "bd")):
        for item in items:
            put(Store(tmp_path / name), item)
    store = Store(tmp_path / "own", [tmp_path / "first", tmp_path / "second"])
    put(store, "c")
    return store


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_what_a_base_has_is_there_and_what_is_new_is_ones_own(over: Store, tmp_path: Path) -> None:
    refs = {item: Ref("tiles", KEY, item) for item in "abcd"}
    assert list(over.refs()) == list(refs.values()) and list(over.own_refs()) == [refs["c"]]
    homes = {item: over.holder(ref).name for item, ref in refs.items()}
    assert homes == {"a": "first", "b": "first", "c": "own", "d": "second"}
    for item, ref in refs.items():
        assert (over.open(ref, remedy="") / "data").read_bytes() == item.encode()
        over.verify(ref)
        assert over.recipe(ref) == RECIPE and over.nbytes(ref) == 1 and over.digest(ref)
    assert not over.has(Ref("tiles", KEY, "e")) and over.path(Ref("tiles", KEY, "e")).is_relative_to(over.root)


def test_what_comes_to_a_base_while_it_is_written_is_not_kept_twice(over: Store) -> None:
    ref = Ref("tiles", KEY, "e")
    with over.write(ref, RECIPE) as folder:
        (folder / "data").write_bytes(b"mine")
        put(Store(over.bases[0]), "e")
    assert over.holder(ref) == over.bases[0] and not partials(over)


def test_prune_and_a_write_leave_bases_as_they_are(
    over: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project(tmp_path / "project"))
    monkeypatch.setenv("HISTILL_STORE", str(over.root))
    monkeypatch.setenv("HISTILL_STORE_BASE", ":".join(map(str, over.bases)))
    before = [tree(base) for base in over.bases]
    put(over, "e")
    done = CliRunner().invoke(store_cli, ["prune", "--yes"])
    assert done.exit_code == 0 and "deleted 1 items" in done.stdout
    assert [ref.item for ref in over.refs()] == ["a", "b", "c", "d"]
    assert [tree(base) for base in over.bases] == before


def test_ls_du_why_and_verify_say_which_store(over: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.delenv("HISTILL_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "250")
    (root / "params.yaml").write_text("store:\n  root: ../own\n  base: [../first, ../second]\n")
    lines = CliRunner().invoke(store_cli, ["ls"]).stdout.splitlines()
    assert [line.endswith(("/first", "/second")) for line in lines] == [True, True, False, True]
    assert "first" in CliRunner().invoke(store_cli, ["du"]).stdout
    assert "item d in" in CliRunner().invoke(store_cli, ["why", KEY]).stdout
    (over.bases[1] / "tiles" / KEY / "d" / "data").write_bytes(b"x")
    found = CliRunner().invoke(store_cli, ["verify"])
    assert found.exit_code == 3 and "whoever keeps" in found.stdout and "second" in found.stdout


def test_a_base_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HISTILL_STORE_BASE", raising=False)
    with pytest.raises(StoreError, match=r"(?s)base of the store is not there.*store\.base"):
        Store.find(str(tmp_path), [str(tmp_path / "unmounted")])
    assert StoreParams.model_validate({"base": "/shared"}).base == ("/shared",)
