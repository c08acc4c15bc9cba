"""Git repositories with a DVC project in them, and what DVC remembers of a stage that ran there."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import yaml
from made.items import tiles_item

from pipeline.base.items import TilesManifest
from pipeline.base.store import Ref, Store, recipe_key

RECIPE = {"tile_px": 224}
KEY = recipe_key(RECIPE)


def put(store: Store, item: str) -> Ref:
    """An item of one file in the store."""
    ref = Ref("tiles", KEY, item)
    with store.write(ref, RECIPE) as folder:
        (folder / "data").write_bytes(item.encode())
    return ref


def git(root: Path, *words: str) -> None:
    """Run git there; it has to succeed."""
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(root), *settings, *words], check=True, capture_output=True)


def remember(root: Path, item: str, cache: Path | None = None) -> None:
    """What DVC does for a stage: the manifest that names an item in its cache, the manifest's md5 in dvc.lock."""
    path = root / "artifacts" / "tiles.json"
    TilesManifest(recipe_key=KEY, items=(tiles_item(item, 0),)).save(path)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    cached = (cache or root / ".dvc" / "cache") / "files" / "md5" / md5[:2] / md5[2:]
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(path.read_bytes())
    lock = {"stages": {"tiles": {"outs": [{"path": "artifacts/tiles.json", "md5": md5}]}}}
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))


def project(root: Path, folder: str = ".", cache: Path | None = None) -> Path:
    """A project in a folder of a new repository whose main branch names item a, and whose workspace names c."""
    at = root / folder
    (at / ".dvc").mkdir(parents=True)
    (root / ".gitignore").write_text("artifacts\n.dvc\n.store\n")
    if cache is not None:
        (at / ".dvc" / "config").write_text(f"[cache]\n    dir = {cache}\n")
    git(root, "init", "-q", "-b", "main")
    remember(at, "a", cache and at / ".dvc" / cache)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "a")
    remember(at, "c", cache and at / ".dvc" / cache)
    return at
