"""What may be deleted from the store: what nobody names, nobody holds, and nobody was at lately.

Work that no manifest names yet is left alone: what running stages hold and have just committed, and for some days what
a stage had made that ended before its manifest, and what killed writers had begun.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.errors import StoreError, UnknownNames
from pipeline.base.files import human
from pipeline.base.living.owners import now_ns
from pipeline.base.living.runs import Run, checkouts, runs
from pipeline.base.living.unfinished import Partial, orphans
from pipeline.base.partials import OF_FILE
from pipeline.base.store import Ref, Store
from pipeline.upkeep.named import Named, named_items

DAYS = 7.0
"""For which unfinished work is left, by default."""


@dataclass(frozen=True)
class Plan:
    """What a prune would delete, and what nobody names but it leaves."""

    items: list[Ref]
    partials: list[Partial]
    left: list[str] = field(default_factory=list)
    """In words: what is left, and why."""


def all_named(store: Store, given: Iterable[Path]) -> Named:
    """What the given checkouts name, and all others in which stages have run with this store."""
    known = checkouts(store.root)
    asked = {folder.absolute(): None for folder in [*given, *known]}
    named = named_items(asked)
    for error in named.failures:
        if Path(error.where) in known:
            fix = f"bring it here; if it is gone for good, `histill store prune --forget {error.where}`"
            what = f"{error.what}, but stages have run there (on {known[Path(error.where)]}) with this store"
            named.failures[named.failures.index(error)] = UnknownNames(what, where=error.where, fix=fix)
    return named


def prunable(store: Store, named: Named, days: float = DAYS) -> Plan:
    """Committed items that nobody names or holds, and partials without an owner, both of no unfinished work of late.

    Raises `StoreError` while some manifest's content is unknown, or some checkout cannot be asked. So too where nothing
    names anything: outside a project, or in a fresh checkout, all would go, others' items as well.
    """
    if named.failures:
        raise named.failures[0]
    if named.unknown:
        shown = "; ".join(named.unknown[:5])
        fix = "get them (`dvc fetch --all-commits`), delete the refs that name them, or say --ignore-missing"
        raise StoreError(f"cannot tell what is still needed: DVC's cache lacks {shown}", where=str(store.root), fix=fix)
    refs = [ref for ref in store.own_refs() if str(ref) not in named.by and not _serves(store, ref, named)]
    if refs and not named.by:
        fix = (
            "run it where `dvc repro` has run, or give such a checkout with --checkout; to drop all, delete the folder"
        )
        raise StoreError("no manifest here names any item, so all would be deleted", where=str(store.root), fix=fix)
    guard, known = Guard(store, days), runs(store.root)
    kept: dict[str, list[Ref]] = defaultdict(list)
    for ref in refs:
        kept[guard.reason_in(known, ref)].append(ref)
    left = [
        f"{len(some)} items, {human(sum(map(store.nbytes, some)))}: {reason}" for reason, some in kept.items() if reason
    ]
    dead = orphans(store.root)
    young = [partial for partial in dead if not guard.old(partial.last_ns)]
    if young:
        left.append(f"{len(young)} unfinished items, {human(sum(p.nbytes for p in young))}, of the last {days:g} days")
    return Plan(kept[""], [partial for partial in dead if partial not in young], left)


class Guard:
    """What runs, or ran of late, as it is at each question."""

    def __init__(self, store: Store, days: float = DAYS) -> None:
        self._store = store
        self._oldest_ns = now_ns(store.root) - round(days * 24 * 3600e9) if store.root.is_dir() else 0

    def old(self, ns: int) -> bool:
        """Whether a time is before the days for which unfinished work is left."""
        return ns < self._oldest_ns

    def reason(self, ref: Ref) -> str:
        """Why an item that nobody names is to be left at this moment, in words; empty where it may go."""
        return self.reason_in(runs(self._store.root), ref)

    def reason_in(self, known: Iterable[Run], ref: Ref) -> str:
        """The same, as far as these runs say."""
        for run in known:
            if run.living and (_recipe(ref) in run.held or self._committed_since(ref, run.begun.started_ns)):
                return f"the stage `{run.begun.stage}` runs, on {run.begun.host}"
            if not run.living and _recipe(ref) in run.held and not self.old(run.last_ns):
                return f"the stage `{run.begun.stage}` did not finish, in {run.begun.checkout}: run it again"
        return ""

    def _committed_since(self, ref: Ref, ns: int) -> bool:
        try:
            return self._store.committed_ns(ref) >= ns
        except FileNotFoundError:
            # Out of sight already, so planned before the run began.
            return False

    def ended(self) -> list[Run]:
        """Runs that ended without a manifest before the days for which unfinished work is left."""
        return [run for run in runs(self._store.root) if not run.living and self.old(run.last_ns)]


def prune(store: Store, plan: Plan, days: float = DAYS) -> int:
    """Delete what is planned, but what a stage has come to hold since; how many items went."""
    guard = Guard(store, days)
    gone = sum(store.delete(ref, unless=functools.partial(guard.reason, ref)) for ref in plan.items)
    for partial in plan.partials:
        partial.delete()
    for run in guard.ended():
        run.drop()
    return gone


def _serves(store: Store, ref: Ref, named: Named) -> bool:
    """Whether an item is of others that are all named: made again from them at once, it would be work done twice."""
    try:
        of = json.loads((store.own_path(ref) / OF_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(of, list) and bool(of) and all(name in named.by for name in of)


def _recipe(ref: Ref) -> str:
    return f"{ref.kind}/{ref.recipe}"
