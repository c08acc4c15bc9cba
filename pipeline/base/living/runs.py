"""What running stages hold in the store, so that nobody prunes it under them, and which checkouts use it.

    <root>/.runs/<uuid>.owner        the process of a stage, for as long as it lives (owners.py)
    <root>/.runs/<uuid>.holds        what it is, as JSON; then the recipes that it has looked at, a line each
    <root>/.checkouts/<key>.json     a checkout in which stages have run with this store

A stage's manifest, which names what the stage found and made, comes at its end. A stage that ends before that leaves
its `.holds`, for what it has made to be kept until it runs again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.base.files import write_json
from pipeline.base.living.owners import OWNER_SUFFIX, is_living, own
from pipeline.base.living.unfinished import sweep_committed

RUNS, CHECKOUTS, _HOLDS = ".runs", ".checkouts", ".holds"


class Begun(BaseModel):
    """The first line of a run's `.holds`; the time is the store's file system's, ns."""

    model_config = ConfigDict(frozen=True)
    stage: str
    checkout: str
    host: str
    started_ns: int


@dataclass(frozen=True)
class Run:
    """A stage that runs, or ended without a manifest; `held` are its recipes, `kind/recipe key`."""

    path: Path
    begun: Begun
    held: frozenset[str]
    living: bool
    last_ns: int
    """When it last said so: the file system's time, ns."""

    def drop(self) -> None:
        """Forget a run that ended without a manifest."""
        for path in (self.path.with_suffix(OWNER_SUFFIX), self.path):
            with contextlib.suppress(OSError):
                path.unlink()


class _Announcement:
    """This process's run: each recipe that it touches is written down once, before it is looked at."""

    def __init__(self, root: Path, holds: Path) -> None:
        self.root, self._holds = root, holds
        self.told: set[str] = set()

    def hold(self, recipe: str) -> None:
        if recipe not in self.told:
            with contextlib.suppress(OSError), open(self._holds, "a", encoding="utf-8") as file:
                file.write(f"{recipe}\n")
            self.told.add(recipe)


_current: _Announcement | None = None


@contextlib.contextmanager
def announced(root: Path, stage: str, checkout: Path) -> Iterator[None]:
    """Announce a stage's run in a store for the block's time. In a store that cannot be written, nobody is told."""
    global _current
    folder, name = root / RUNS, uuid.uuid4().hex
    holds = folder / f"{name}{_HOLDS}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        owner = own(folder / f"{name}{OWNER_SUFFIX}")
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            started_ns = os.fstat(owner.handle).st_mtime_ns
            begun = Begun(stage=stage, checkout=str(checkout), host=os.uname().nodename, started_ns=started_ns)
            holds.write_text(begun.model_dump_json() + "\n", encoding="utf-8")
            key = hashlib.sha256(f"{begun.host}:{checkout}".encode()).hexdigest()[:32]
            write_json(root / CHECKOUTS / f"{key}.json", {"host": begun.host, "path": str(checkout)})
        _current = _Announcement(root, holds)
        yield
        _forget_finished(root, holds)
    finally:
        _current = None
        owner.release()


def _forget_finished(root: Path, holds: Path) -> None:
    """A run that ended well needs no announcement, nor do those of its stage before it that had come less far.

    Of the recipes that it has held, what killed writers left beside committed items goes too.
    """
    with contextlib.suppress(OSError, KeyError):
        found = {run.path: run for run in runs(root)}
        ours = found[holds]
        for run in found.values():
            same = (run.begun.stage, run.begun.checkout) == (ours.begun.stage, ours.begun.checkout)
            if same and not run.living and run.held <= ours.held:
                run.drop()
        holds.unlink(missing_ok=True)
        for recipe in ours.held:
            sweep_committed(root / recipe)


def hold(root: Path, recipe: str) -> None:
    """The run of this process, if there is one in this store, is about to look at items of `kind/recipe key`."""
    if _current is not None and _current.root == root:
        _current.hold(recipe)


def held_here(root: Path) -> frozenset[str]:
    """The recipes that this process's run has looked at in that store so far, `kind/recipe key`."""
    current = _current
    return frozenset(current.told) if current is not None and current.root == root else frozenset()


def runs(root: Path) -> list[Run]:
    """The stages that run, and those that ended without a manifest."""
    found = []
    for path in sorted((root / RUNS).glob(f"*{_HOLDS}")):
        try:
            first, *held = path.read_text(encoding="utf-8").splitlines()
            last_ns = path.stat().st_mtime_ns
            begun = Begun.model_validate_json(first)
        except (FileNotFoundError, ValueError, ValidationError):
            continue
        living = is_living(path.with_suffix(OWNER_SUFFIX))
        found.append(Run(path, begun, frozenset(held), living, last_ns))
    return found


def checkouts(root: Path) -> dict[Path, str]:
    """The checkouts in which stages have run with this store, and the host that each was on."""
    found = {}
    for path in sorted((root / CHECKOUTS).glob("*.json")):
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
            told = json.loads(path.read_bytes())
            found[Path(told["path"])] = str(told["host"])
    return found


def forget(root: Path, checkout: Path) -> None:
    """What the checkout names does not count any more."""
    for path in (root / CHECKOUTS).glob("*.json"):
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
            if json.loads(path.read_bytes())["path"] == str(checkout):
                path.unlink(missing_ok=True)
