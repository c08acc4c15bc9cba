"""What the store holds and who still names it: the work behind `histill store ls | du | verify | prune | why`.

An item is named when a manifest in the workspace names it, or one that any git ref or DVC experiment stands for: their
dvc.lock holds the manifest's md5, and DVC's cache its content. Only the checkouts one gives are asked, so whoever
prunes a store that several projects share gives them all.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import ValidationError

from pipeline.base.arrays import rows_of_file
from pipeline.base.errors import CorruptItem, StoreError
from pipeline.base.manifest import IN_STORE, Outline
from pipeline.base.store import Ref, Store

KIND_STAGE = {
    "slides": "slides",
    "tiles": "tiles",
    "tokens": "tokens",
    "teachers": "tokens",
    "engines": "tokens",
    "checkpoints": "student",
    "classifiers": "evaluate",
}


@dataclass
class Named:
    """Store items by who names them: ref text -> places (`workspace`, `main`, an experiment's name …)."""

    by: dict[str, list[str]] = field(default_factory=dict)
    slides: dict[str, str] = field(default_factory=dict)
    """Slide ids by ref text, of the items that are a slide's."""
    unknown: list[str] = field(default_factory=list)
    """Manifests that a ref names but DVC's cache does not hold, so that nobody knows what they name."""

    def add(self, manifest: Outline, place: str) -> None:
        if manifest.stage in IN_STORE:
            for item in manifest.items:
                self.slides.setdefault(manifest.address(item), item.id)
        for ref in manifest.refs():
            places = self.by.setdefault(ref, [])
            if place not in places:
                places.append(place)


def named_items(checkouts: Iterable[Path]) -> Named:
    """All that the given checkouts' workspaces, git refs and DVC experiments name."""
    named = Named()
    for root in checkouts:
        for path in sorted((root / "artifacts").glob("*.json")):
            _add(named, path, "workspace")
        for place, lock in locks(root):
            for name, md5 in locked_manifests(lock):
                cached = cached_file(root, md5)
                if cached.is_file():
                    _add(named, cached, place)
                elif not (place == "workspace" and (root / name).is_file()):
                    named.unknown.append(f"{name} of {place}")
    return named


def prunable(store: Store, named: Named) -> list[Ref]:
    """Committed items that nobody names. Raises `StoreError` while some manifest's content is unknown.

    So too where nothing names anything: outside a project, or in a fresh checkout, all would go, others' items as well.
    """
    if named.unknown:
        shown = "; ".join(named.unknown[:5])
        fix = "get them (`dvc fetch --all-commits`), delete the refs that name them, or say --ignore-missing"
        raise StoreError(f"cannot tell what is still needed: DVC's cache lacks {shown}", where=str(store.root), fix=fix)
    refs = [ref for ref in store.refs() if str(ref) not in named.by]
    if refs and not named.by:
        fix = (
            "run it where `dvc repro` has run, or give such a checkout with --checkout; to drop all, delete the folder"
        )
        raise StoreError("no manifest here names any item, so all would be deleted", where=str(store.root), fix=fix)
    return refs


def corrupt(store: Store, ref: Ref, named: Named) -> CorruptItem | None:
    """What is wrong with an item, by slide and rows where the manifests and the arrays tell; None where nothing is."""
    faults = store.faults(ref)
    if not faults:
        return None
    wrong = "; ".join(f"{name}{_rows(store.path(ref), name)} {what}" for name, what in faults.items())
    slide = named.slides.get(str(ref))
    fix = f"delete {store.path(ref)} and run its stage again"
    return CorruptItem(wrong, where=f"slide {slide}, {ref}" if slide is not None else str(ref), fix=fix)


def find(store: Store, key: str) -> list[Ref]:
    """Items whose recipe or item key begins with `key`, or whose whole name is `key`."""
    return [ref for ref in store.refs() if ref.recipe.startswith(key) or ref.item.startswith(key) or str(ref) == key]


def _rows(item: Path, name: str) -> str:
    try:
        rows = rows_of_file(item, name)
    except (CorruptItem, ValueError, LookupError):
        return " (rows unknown: the metadata is broken too)"
    return "" if rows is None else f" (rows {rows.start}-{rows.stop - 1})"


def _add(named: Named, path: Path, place: str) -> None:
    try:
        named.add(Outline.model_validate_json(path.read_bytes()), place)
    except ValidationError:
        named.unknown.append(f"{path.name} of {place} (not a manifest)")


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


def locked_manifests(lock: str) -> Iterator[tuple[str, str]]:
    """(path, md5) of every manifest among the outputs in a dvc.lock."""
    for stage in ((yaml.safe_load(lock) or {}).get("stages") or {}).values():
        for out in stage.get("outs", []):
            if re.fullmatch(r"artifacts/\w+\.json", out.get("path", "")) and "md5" in out:
                yield out["path"], out["md5"]
