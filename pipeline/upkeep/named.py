"""Who names what in the store.

An item is named when a manifest in the workspace names it, or one that any git ref or DVC experiment stands for: their
dvc.lock holds the manifest's md5, and DVC's cache its content. Only the checkouts one gives are asked, so whoever
prunes a store that several projects share gives them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from pipeline.base.manifest import IN_STORE, Outline
from pipeline.upkeep.locks import cached_file, locked_manifests, locks


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


def _add(named: Named, path: Path, place: str) -> None:
    try:
        named.add(Outline.model_validate_json(path.read_bytes()), place)
    except ValidationError:
        named.unknown.append(f"{path.name} of {place} (not a manifest)")
