"""What a trial of bench/faults came to: what is counted, and what differs from an undisturbed run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.store import Store

MADE = {
    "tiles": ("tiles",),
    "tokens": ("tokens",),
    "student": ("checkpoints",),
    "evaluate": ("embeddings", "figures"),
}
"""Kinds of the store's items by the stage that makes them, in order."""


@dataclass
class Count:
    """What the trials of one fault came to."""

    trials: int = 0
    hit: int = 0
    """Trials in which the fault came before the stage's end."""
    wrong: list[str] = field(default_factory=list)
    redone: int = 0
    left: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    _told: list[str] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        """Whether there is anything that should not be."""
        return bool(self.wrong or self.redone or self.left or self.tracebacks)

    def told(self) -> str:
        """In words, so far."""
        bad = (*self.wrong, *self.left, *self.tracebacks)
        return f"{self.hit} of {self.trials} hit, {len(bad)} bad, {self.redone} redone"

    def news(self) -> list[str]:
        """What is bad and has not been told yet."""
        bad = [*self.wrong, *self.left, *self.tracebacks]
        found = [what for what in bad if what not in self._told]
        self._told += found
        return found

    def cells(self, name: str) -> tuple[object, ...]:
        """As the table shows it."""
        return name, self.trials, self.hit, len(self.wrong), self.redone, len(self.left), len(self.tracebacks)


def differing(whole: Path, trial: Path, name: str) -> Iterator[str]:
    """What the stage left in project `trial` that is not as in `whole`: items, their files, its manifest."""
    kinds, stores = set(MADE[name]), (Store(whole / ".store"), Store(trial / ".store"))
    expected, found = ({ref for ref in store.refs() if ref.kind in kinds} for store in stores)
    yield from (f"{ref} is missing" for ref in expected - found)
    yield from (f"{ref} is of no undisturbed run" for ref in found - expected)
    for ref in expected & found:
        if stores[0].digest(ref) != stores[1].digest(ref):
            yield f"{ref} differs"
        yield from (f"{ref}: {file} {what}" for file, what in stores[1].faults(ref).items())
    manifest = f"artifacts/{name}.json"
    if (whole / manifest).read_bytes() != (trial / manifest).read_bytes():
        yield f"{manifest} differs"


def leftovers(store: Path) -> list[str]:
    """What is in a store that is no item, nor of a recipe or a run: paths in it."""
    found = [*store.glob("*/*/.partials/*"), *store.glob("*/*/.partials/*/*")]
    found += [path for path in store.glob("*/*/.*") if path.name != ".partials"]
    return sorted(path.relative_to(store).as_posix() for path in found)
