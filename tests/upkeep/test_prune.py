"""`histill store …`: what is named stays, what nobody names is shown and goes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import made.command
import pytest
from made.checkout import KEY, git, put, remember

from pipeline.base.errors import StoreError
from pipeline.base.files import dvc_root, human
from pipeline.base.store import Store
from pipeline.upkeep.named import named_items
from pipeline.upkeep.prune import prunable


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository whose main branch names item a, whose experiment names b and whose workspace names c."""
    (tmp_path / ".gitignore").write_text("artifacts\n.dvc\n.store\n")
    git(tmp_path, "init", "-q", "-b", "main")
    for item, ref in (("a", None), ("b", "refs/exps/aa/bb/exp-b")):
        remember(tmp_path, item)
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-qm", item)
        if ref:
            git(tmp_path, "update-ref", ref, "HEAD")
            git(tmp_path, "reset", "-q", "--hard", "HEAD~1")
    remember(tmp_path, "c")
    return tmp_path


def histill(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return made.command.histill(project, "store", *words, HISTILL_STORE=str(project / ".store"))


def test_prune_keeps_what_branch_experiment_and_workspace_name(project: Path) -> None:
    store = Store(project / ".store")
    refs = {item: put(store, item) for item in "abcd"}
    named = named_items([project])
    assert set(named.by) == {str(refs[item]) for item in "abc"}
    assert prunable(store, named).items == [refs["d"]]
    shown = histill(project, "prune")
    assert "would delete" in shown.stdout and store.has(refs["d"])
    done = histill(project, "prune", "--yes")
    assert done.returncode == 0, done.stderr
    assert [store.has(refs[item]) for item in "abcd"] == [True, True, True, False]


def test_prune_refuses_while_it_cannot_know(project: Path) -> None:
    store = Store(project / ".store")
    put(store, "d")
    for cached in (project / ".dvc").rglob("*"):
        if cached.is_file():
            cached.unlink()
    with pytest.raises(StoreError, match=r"(?s)cannot tell.*--ignore-missing"):
        prunable(store, named_items([project]))
    refused = histill(project, "prune", "--yes")
    assert refused.returncode == 1 and "cannot tell" in refused.stderr and "Traceback" not in refused.stderr


def test_prune_refuses_where_nothing_names_anything(tmp_path: Path) -> None:
    store = Store(tmp_path / ".store")
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / ".dvc").mkdir()
    assert prunable(store, named_items([tmp_path])).items == []
    put(store, "d")
    with pytest.raises(StoreError, match=r"(?s)all would be deleted.*--checkout"):
        prunable(store, named_items([tmp_path]))


def test_ls_du_why_and_verify_speak_of_what_is_there(project: Path) -> None:
    store = Store(project / ".store")
    ref = put(store, "a")
    assert f"{ref}\t1 B\tmain" in histill(project, "ls").stdout
    assert KEY in histill(project, "du").stdout
    why = histill(project, "why", KEY[:8]).stdout
    assert "stage `tiles`" in why and "tile_px: 224" in why and "named by main" in why
    assert histill(project, "verify").returncode == 0
    (store.path(ref) / "data").write_bytes(b"b")
    found = histill(project, "verify")
    assert found.returncode == 3 and "another checksum" in found.stdout and str(ref) in found.stdout
    unknown = histill(project, "why", "ffff")
    assert unknown.returncode == 1 and "no item's key" in unknown.stderr


def test_a_temporary_experiment_uses_its_projects_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HISTILL_STORE", raising=False)
    inside = tmp_path / ".dvc" / "tmp" / "exps" / "tmp123"
    (inside / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert dvc_root() == tmp_path
    assert Store.find().root == tmp_path / ".store"
    assert Store.find("caches").root == tmp_path / "caches"
    monkeypatch.setenv("HISTILL_STORE", "/elsewhere")
    assert Store.find("caches").root == Path("/elsewhere")


@pytest.mark.parametrize(("nbytes", "text"), [(0, "0 B"), (999, "999 B"), (1536, "1.5 kB"), (2.04e12, "2.0 TB")])
def test_sizes_are_for_people(nbytes: float, text: str) -> None:
    assert human(nbytes) == text
