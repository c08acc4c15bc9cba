"""Who names what is asked of git and DVC themselves, and whatever they cannot answer is a refusal."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from made.checkout import KEY, git, project, put, remember
from made.python_server import loaded_python
from typer.testing import CliRunner

from pipeline.base.errors import StoreError, UnknownNames
from pipeline.base.living.runs import announced, checkouts
from pipeline.base.store import Store
from pipeline.upkeep.named import named_items
from pipeline.upkeep.prune import all_named, prunable
from stages.cli.store import store_cli


def named_in(*roots: Path) -> dict[str, list[str]]:
    """Places by the names of items."""
    found = named_items(roots)
    assert not found.failures and not found.unknown
    return {ref.removeprefix(f"tiles/{KEY}/"): places for ref, places in found.by.items()}


@pytest.mark.parametrize("folder", [".", "deep/in it"])
@pytest.mark.parametrize("cache", [None, Path("../../elsewhere")])
def test_a_project_anywhere_in_its_repository_with_its_cache_anywhere(
    tmp_path: Path, folder: str, cache: Path | None
) -> None:
    root = project(tmp_path / "repository", folder, cache)
    assert named_in(root) == {"a": ["main"], "c": ["workspace"]}
    assert named_in(root / "artifacts") == named_in(root)


def test_what_dvc_itself_wrote_is_found(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    root = tmp_path / "project"
    root.mkdir()
    remember(root, "a")
    manifest = (root / "artifacts" / "tiles.json").read_text()
    (root / "made.json").write_text(manifest)
    (root / "dvc.yaml").write_text(
        "stages:\n  tiles:\n    cmd: cp made.json artifacts/tiles.json\n    outs: [artifacts/tiles.json]\n"
    )
    (root / "dvc.lock").unlink()
    shutil.rmtree(root / ".dvc")
    for words in (["init", "-q", "--subdir"], ["cache", "dir", "-q", "../cache"], ["repro", "-q"]):
        subprocess.run([loaded_python(), "-m", "dvc", *words], cwd=root, check=True, capture_output=True)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "a")
    assert (tmp_path / "cache" / "files").is_dir()
    (root / "artifacts" / "tiles.json").unlink()
    assert named_in(root) == {"a": ["workspace", "main"]}


def test_another_working_tree_and_a_running_experiment_name_theirs(tmp_path: Path) -> None:
    root = project(tmp_path / "one")
    git(root, "worktree", "add", "-q", "--detach", str(tmp_path / "two"))
    remember(tmp_path / "two", "b")
    for item, folder in (("e", "tmp1"), ("f", "standalone/tmp2")):
        remember(root / ".dvc" / "tmp" / "exps" / folder, item)
    places = named_in(root)
    assert set(places) == {"a", "b", "c", "e", "f"}
    assert places["b"] == [f"worktree {tmp_path / 'two'}"] and places["e"] == ["running experiment tmp1"]


def test_a_git_that_fails_or_is_not_there_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, store = project(tmp_path / "one"), Store(tmp_path / "store")
    put(store, "d")
    with monkeypatch.context() as changed:
        changed.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "true")
        changed.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        changed.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
        with pytest.raises(UnknownNames, match="dubious ownership"):
            prunable(store, named_items([root]))
    with monkeypatch.context() as changed:
        changed.setenv("PATH", str(tmp_path))
        with pytest.raises(UnknownNames, match="no git to ask"):
            prunable(store, named_items([root]))
    (root / ".git" / "HEAD").write_text("nonsense")
    with pytest.raises(UnknownNames, match=r"(?s)git .* fails.*core.no_scm"):
        prunable(store, named_items([root]))
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    assert named_in(root) == {"c": ["workspace"]}


def test_a_project_without_dvc_has_its_workspace(tmp_path: Path) -> None:
    remember(tmp_path / "plain", "a")
    shutil.rmtree(tmp_path / "plain" / ".dvc")
    (tmp_path / "plain" / "params.yaml").write_text("")
    (tmp_path / "plain" / "dvc.lock").unlink()
    assert named_in(tmp_path / "plain") == {"a": ["workspace"]}


def test_a_mistyped_checkout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, store = project(tmp_path / "one"), Store(tmp_path / "store")
    monkeypatch.chdir(root)
    monkeypatch.setenv("HISTILL_STORE", str(store.root))
    ref = put(store, "d")
    (tmp_path / "empty").mkdir()
    for wrong in ("tow", "empty"):
        done = CliRunner().invoke(store_cli, ["prune", "--yes", "--checkout", str(tmp_path / wrong)])
        assert done.exit_code == 1 and store.has(ref), wrong
    with pytest.raises(UnknownNames, match="no such folder"):
        prunable(store, named_items([root, tmp_path / "tow"]))


def test_checkouts_that_have_used_the_store_are_asked_and_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, store = project(tmp_path / "one"), Store(tmp_path / "store")
    two = project(tmp_path / "two")
    remember(two, "d")
    ref = put(store, "d")
    with announced(store.root, "tiles", two):
        pass
    assert list(checkouts(store.root)) == [two]
    assert prunable(store, all_named(store, [one])).items == []
    two.rename(tmp_path / "moved")
    with pytest.raises(StoreError, match=r"(?s)stages have run there.*--forget"):
        prunable(store, all_named(store, [one]))
    monkeypatch.chdir(one)
    monkeypatch.setenv("HISTILL_STORE", str(store.root))
    done = CliRunner().invoke(
        store_cli, ["prune", "--yes", "--forget", str(two), "--checkout", str(tmp_path / "moved")]
    )
    assert done.exit_code == 0 and store.has(ref)
    assert CliRunner().invoke(store_cli, ["prune", "--yes"]).exit_code == 0 and not store.has(ref)
