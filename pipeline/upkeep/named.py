"""Who names what in the store.

An item is named when a manifest in the workspace names it, or one that any git ref or DVC experiment stands for: their
dvc.lock holds the manifest's md5, and DVC's cache its content. Only the checkouts one gives are asked, so whoever
prunes a store that several projects share gives them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from pipeline.base.manifest import IN_STORE, Outline
from pipeline.upkeep.locks import cached_file, locked_manifests, locks


@dataclass(frozen=True)
class Content:
    """What one manifest names: refs, and the slide ids of those that are a slide's."""

    refs: frozenset[str]
    slides: Mapping[str, str]

    @classmethod
    def of(cls, path: Path) -> Content | None:
        """None where the file is no manifest."""
        try:
            manifest = Outline.model_validate_json(path.read_bytes())
        except ValidationError:
            return None
        items = manifest.items if manifest.stage in IN_STORE else ()
        return cls(frozenset(manifest.refs()), {manifest.address(item): item.id for item in items})


@dataclass
class Named:
    """Store items by who names them: ref text -> places (`workspace`, `main`, an experiment's name …)."""

    by: dict[str, list[str]] = field(default_factory=dict)
    slides: dict[str, str] = field(default_factory=dict)
    """Slide ids by ref text, of the items that are a slide's."""
    unknown: list[str] = field(default_factory=list)
    """Manifests that a ref names but DVC's cache does not hold, so that nobody knows what they name."""

    def add(self, content: Content, place: str) -> None:
        for ref, slide in content.slides.items():
            self.slides.setdefault(ref, slide)
        for ref in content.refs:
            places = self.by.setdefault(ref, [])
            if place not in places:
                places.append(place)


def named_items(checkouts: Iterable[Path]) -> Named:
    """All that the given checkouts' workspaces, git refs and DVC experiments name."""
    named = Named()
    for root in checkouts:
        for path in sorted((root / "artifacts").glob("*.json")):
            _add(named, path, Content.of(path), "workspace")
        # Fifty experiments on the same slides name the same manifests: each is read once.
        read: dict[Path, Content | None] = {}
        for place, lock in locks(root):
            for name, md5 in locked_manifests(lock):
                cached = cached_file(root, md5)
                if cached not in read and cached.is_file():
                    read[cached] = Content.of(cached)
                if cached in read:
                    _add(named, cached, read[cached], place)
                elif not (place == "workspace" and (root / name).is_file()):
                    named.unknown.append(f"{name} of {place}")
    return named


def _add(named: Named, path: Path, content: Content | None, place: str) -> None:
    if content is None:
        named.unknown.append(f"{path.name} of {place} (not a manifest)")
    else:
        named.add(content, place)
