"""What git and DVC remember of a checkout: the manifests that each ref's dvc.lock names, and where DVC keeps them.

Git and files are read, never DVC itself, whose locks the stage that asks may hold.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import yaml


def locks(root: Path) -> Iterator[tuple[str, str]]:
    """(place, text of dvc.lock) of the workspace and of every git ref, experiments included."""
    if (root / "dvc.lock").is_file():
        yield "workspace", (root / "dvc.lock").read_text(encoding="utf-8")
    for ref in _git(root, "for-each-ref", "--format=%(refname)").splitlines():
        text = _git(root, "show", f"{ref}:dvc.lock")
        if text:
            yield ref.removeprefix("refs/heads/").removeprefix("refs/"), text


def cached_file(root: Path, md5: str) -> Path:
    """Where DVC's cache of a checkout keeps a file, whether it is there or not."""
    return root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def _git(root: Path, *words: str) -> str:
    """A git command's output, empty where it fails (no repository, no such file at that ref)."""
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


@lru_cache(maxsize=256)
def locked_manifests(lock: str) -> tuple[tuple[str, str], ...]:
    """(path, md5) of every manifest among the outputs in a dvc.lock; kept, since many refs have one text."""
    # libyaml's parser: the same answers, twenty times sooner.
    read = yaml.load(lock, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    outs = [out for stage in (read.get("stages") or {}).values() for out in stage.get("outs", [])]
    return tuple(
        (out["path"], out["md5"])
        for out in outs
        if re.fullmatch(r"artifacts/\w+\.json", out.get("path", "")) and "md5" in out
    )
