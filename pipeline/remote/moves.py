"""Many items to the bucket, or from it, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from pipeline.base.errors import HistillError
from pipeline.base.progress import track
from pipeline.base.store import Ref, Store
from pipeline.remote.bucket import LOCAL_KINDS, Bucket
from pipeline.remote.transfers import send

THREADS = 8
"""Items on their way at a time: an item of a few small files is mostly waiting for answers."""
_ENOUGH = 3
"""Items that fail, after which the rest is left for the next time: a bucket that refuses refuses all."""


@dataclass(frozen=True)
class Moved:
    """What came of it: `items` that moved, `nbytes` of them; `already` were there; `absent` are nowhere.

    `failed` says why of those that were tried, `left` counts them and those that were not tried any more.
    """

    items: int
    nbytes: int
    already: int
    absent: tuple[Ref, ...]
    failed: dict[Ref, HistillError]
    left: int


def push(store: Store, bucket: Bucket, refs: Sequence[Ref], *, again: bool = False) -> Moved:
    """Send items that the store or a base has; with `again` those that the bucket has too, which compares them."""
    known = [ref for ref in refs if ref.kind not in LOCAL_KINDS]

    def one(ref: Ref) -> int:
        sent = send(bucket.objects, ref, store)
        bucket.sent(ref)
        return sent

    there = _which(known, lambda ref: not again and bucket.has(ref))
    here = [ref for ref in known if ref not in there and store.is_here(ref)]
    absent = tuple(ref for ref in known if ref not in there and not store.is_here(ref))
    return _all("push", here, one, len(there), absent)


def pull(store: Store, bucket: Bucket, refs: Sequence[Ref]) -> Moved:
    """Fetch items that neither the store nor a base has."""

    def one(ref: Ref) -> int:
        bucket.fetch(ref, store)
        return store.nbytes(ref)

    known = [ref for ref in refs if ref.kind not in LOCAL_KINDS]
    wanted = [ref for ref in known if not store.is_here(ref)]
    there = _which(wanted, bucket.has)
    absent = tuple(ref for ref in wanted if ref not in there)
    return _all("pull", [ref for ref in wanted if ref in there], one, len(known) - len(wanted), absent)


def _which(refs: Sequence[Ref], holds: Callable[[Ref], bool]) -> set[Ref]:
    """Those for which it holds. The first of a recipe lists it, so that the others need no answer of their own."""
    firsts = {(ref.kind, ref.recipe): ref for ref in reversed(refs)}
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(holds, firsts.values()))
    return {ref for ref in refs if holds(ref)}


def _all(label: str, refs: Sequence[Ref], one: Callable[[Ref], int], already: int, absent: tuple[Ref, ...]) -> Moved:
    items = nbytes = 0
    failed: dict[Ref, HistillError] = {}
    enough = threading.Event()
    with track(label, len(refs), "items") as advance, ThreadPoolExecutor(THREADS) as pool:
        asked = {pool.submit(lambda ref: None if enough.is_set() else one(ref), ref): ref for ref in refs}
        try:
            for future in as_completed(asked):
                try:
                    moved = future.result()
                except HistillError as error:
                    failed[asked[future]] = error
                    if len(failed) == _ENOUGH:
                        enough.set()
                else:
                    items += moved is not None
                    nbytes += moved or 0
                advance()
        finally:
            enough.set()
    return Moved(items, nbytes, already, absent, failed, len(refs) - items)
