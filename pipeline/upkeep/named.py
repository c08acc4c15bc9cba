"""Who names what in the store.

An item is named when a manifest in a workspace names it, or one that any git ref or DVC experiment stands for: their
dvc.lock holds the manifest's md5, and DVC's cache its content. Only the checkouts one gives are asked, so whoever
prunes a store that several projects share gives them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from pipeline.base.errors import UnknownNames
from pipeline.base.manifest import IN_STORE, Outline
from pipeline.upkeep.checkout import WORKSPACE, Checkout, locked_manifests


@dataclass
class Named:
    """Store items by who names them: ref text -> places (`workspace`, `main`, an experiment's name …)."""

    by: dict[str, list[str]] = field(default_factory=dict)
    slides: dict[str, str] = field(default_factory=dict)
    """Slide ids by ref text, of the items that are a slide's."""
    unknown: list[str] = field(default_factory=list)
    """Manifests that a ref names but DVC's cache does not hold, so that nobody knows what they name."""
    failures: list[UnknownNames] = field(default_factory=list)
    """Why checkouts could not be asked at all."""

    def add(self, manifest: Outline, places: Iterable[str]) -> None:
        if manifest.stage in IN_STORE:
            for item in manifest.items:
                self.slides.setdefault(manifest.address(item), item.id)
        for ref in manifest.refs():
            known = self.by.setdefault(ref, [])
            known += [place for place in places if place not in known]


def named_items(checkouts: Iterable[Path]) -> Named:
    """All that the given checkouts' workspaces, git refs and DVC experiments name; where one fails, what it told."""
    named = Named()
    for folder in checkouts:
        try:
            checkout = Checkout.at(folder)
            for path, places in _manifests(checkout, named).items():
                _add(named, path, places)
        except UnknownNames as error:
            named.failures.append(error)
    return named


def _manifests(checkout: Checkout, named: Named) -> dict[Path, list[str]]:
    """The files of the checkout's manifests, each once, with the places that name it."""
    found: dict[Path, list[str]] = {}
    try:
        for place, folder in checkout.workspaces():
            found |= {path: [place] for path in sorted((folder / "artifacts").glob("*.json"))}
        for place, lock in checkout.locks():
            for name, md5 in locked_manifests(lock).items():
                cached = checkout.cached_file(md5)
                if cached.is_file():
                    found.setdefault(cached, []).append(place)
                elif not (place == WORKSPACE and (checkout.root / name).is_file()):
                    named.unknown.append(f"{name} of {place}")
    except UnknownNames as error:
        named.failures.append(error)
    return found


def _add(named: Named, path: Path, places: list[str]) -> None:
    try:
        named.add(Outline.model_validate_json(path.read_bytes()), places)
    except ValidationError:
        named.unknown.append(f"{path.name} of {places[0]} (not a manifest)")
    except OSError as error:
        raise UnknownNames(f"cannot read it: {error.strerror}", where=str(path), fix="make it readable") from None
