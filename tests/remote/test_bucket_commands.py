"""`histill store push | pull | status`, and what a stage does at its end: which items are meant, and what is said."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import made.command
import pytest
import typer
from made.checkout import KEY, git, put, remember
from made.items import tiles_item

from pipeline.base.items import TilesManifest
from pipeline.base.store import Ref, Store
from pipeline.params.site import SiteParams
from pipeline.remote import objects
from pipeline.remote.background import Going
from pipeline.remote.bucket import Bucket
from stages.command import execute, push_made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository whose experiment `one` names item b and whose workspace names c; the store has both, and d."""
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / ".gitignore").write_text("artifacts\n.dvc\n.store\n")
    git(root, "init", "-q", "-b", "main")
    remember(root, "b")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "b")
    git(root, "update-ref", "refs/exps/aa/bb/one", "HEAD")
    remember(root, "c")
    for item in "bcd":
        put(Store(root / ".store"), item)
    return root


def histill(project: Path, *words: str, store: str = ".store") -> subprocess.CompletedProcess[str]:
    remote = f"file://{project.parent}/bucket"
    environment = {"HISTILL_STORE": str(project / store), "HISTILL_STORE_REMOTE": remote}
    return made.command.histill(project, "store", *words, **environment)


def there(project: Path) -> str:
    return "".join(ref.item for ref in Bucket.at(f"file://{project.parent}/bucket").refs())


def test_what_is_named_is_sent(project: Path) -> None:
    assert "sent 1 items" in histill(project, "push").stdout and there(project) == "c"
    assert "0 items, 0 B; 1 were there already" in histill(project, "push").stdout
    assert histill(project, "push", "--experiment", "one").returncode == 0 and there(project) == "bc"
    assert histill(project, "push", "--all").returncode == 0 and there(project) == "bcd"


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (("--kind", "tokens"), ""),
        (("--kind", "tiles"), "c"),
        (("--recipe", KEY[:5]), "c"),
        (("--recipe", "x"), ""),
        (("--slide", "c"), "c"),
        (("--slide", "b"), ""),
        (("--slide", "b", "--experiment", "one"), "b"),
    ],
)
def test_less_can_be_chosen(words: tuple[str, ...], sent: str, project: Path) -> None:
    assert histill(project, "push", *words).returncode == 0
    assert there(project) == sent


def test_another_machine_pulls_what_it_names(project: Path) -> None:
    histill(project, "push")
    assert "there alone" in histill(project, "status", store="bare").stdout
    (recipe,) = json.loads(histill(project, "status", "--json", store="bare").stdout)["recipes"]
    assert recipe == {"kind": "tiles", "recipe": KEY, "both": 0, "here": 0, "bucket": 1, "nowhere": 0}
    done = histill(project, "pull", store="bare")
    assert done.returncode == 0 and "fetched 1 items" in done.stdout
    assert [ref.item for ref in Store(project / "bare").own_refs()] == ["c"]


def test_what_is_nowhere_is_said(project: Path) -> None:
    done = histill(project, "pull", store="bare")
    assert done.returncode == 3 and f"nowhere: tiles/{KEY}/c" in done.stderr


def test_a_store_without_a_bucket_says_how_to_name_one(project: Path) -> None:
    done = made.command.histill(project, "store", "push", HISTILL_STORE_REMOTE="none")
    assert done.returncode == 1 and "store.remote" in done.stderr


def test_a_stage_sends_what_it_made_and_does_not_fail_where_it_cannot(
    store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PAUSES_S", ())
    ref = put(store, "a")
    manifest = TilesManifest(recipe_key=KEY, items=(tiles_item("a", 0),))
    bucket = Bucket.at(f"file://{tmp_path}/bucket")
    push_made(store, bucket, manifest, Going())
    assert list(bucket.refs()) == [Ref("tiles", KEY, "a")] == [ref]
    (tmp_path / "other" / "tiles" / KEY).mkdir(parents=True)
    (tmp_path / "other" / "tiles" / KEY / "files").write_text("in the way")
    push_made(store, Bucket.at(f"file://{tmp_path}/other"), manifest, Going())
    push_made(store, Bucket.at(f"file://{tmp_path}/other/tiles/{KEY}/files"), manifest, Going())
    said = " ".join(capfd.readouterr().err.split())
    assert "sent 1 items" in said and "1 items are not in the bucket yet" in said and "histill store push" in said
    assert "was not asked" in said


@pytest.mark.parametrize(("bucket", "code"), [("bucket", 0), ("in_the_way", 3), (None, 1)])
def test_who_waits_knows_by_the_exit_code(
    bucket: str | None, code: int, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PAUSES_S", ())
    put(store, "a")
    (tmp_path / "in_the_way").write_text("no folder")
    remote = f"file://{tmp_path}/{bucket}" if bucket else None
    params = {"root": str(store.root), "remote": remote, "push": False}
    (tmp_path / "params.yaml").write_text(json.dumps({"store": params}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HISTILL_STORE", raising=False)
    manifest = TilesManifest(recipe_key=KEY, items=(tiles_item("a", 0),))
    ended = 0
    try:
        execute("tiles", SiteParams, lambda params, store: manifest, debug=False, wait=True)
    except typer.Exit as end:
        ended = end.exit_code
    assert ended == code
    assert (tmp_path / "bucket" / "tiles" / KEY / "items" / "a.json").exists() == (code == 0)


def test_without_waiting_a_stage_says_what_is_left(
    store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(store, "a")
    manifest = TilesManifest(recipe_key=KEY, items=(tiles_item("a", 0),))
    bucket = Bucket.at(f"file://{tmp_path}/bucket")
    push_made(store, bucket, manifest, Going(), wait=False)
    assert not list(bucket.refs()) and "1 items are not in the bucket yet" in " ".join(capfd.readouterr().err.split())
