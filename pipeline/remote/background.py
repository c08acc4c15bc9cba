"""Sends what a stage commits while the stage goes on, an item at a time.

Every few seconds the recipes that the run has looked at are looked through for items that came since it began,
whichever of its processes wrote them. Nothing of it is remembered: what a run that was killed had not sent, the next
one finds at its end, by its manifest, and a transfer goes on at the file.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import HistillError
from pipeline.base.partials import ITEM_FILE
from pipeline.base.store import ALL, Ref, Store
from pipeline.remote.bucket import LOCAL_KINDS, Bucket
from pipeline.remote.transfers import send

PAUSE_S = 5.0
_ENOUGH = 3
"""Items that fail, after which the rest is left for the stage's end, which says why."""


@dataclass
class Going:
    """What has been sent so far."""

    items: int = 0
    nbytes: int = 0


@contextlib.contextmanager
def sending(store: Store, bucket: Bucket, recipes: Callable[[], Iterable[str]]) -> Iterator[Going]:
    """Send for the time of the block; `recipes` gives those to look through, `kind/recipe key`.

    The end of a block that went well waits for the item that is on its way. What cannot be sent raises nothing here.
    """
    going, stop = Going(), threading.Event()
    began_ns = _now_ns(store.root)

    def watch() -> None:
        tried: set[Ref] = set()
        failed = 0
        while not stop.wait(PAUSE_S):
            for ref in _since(store.root, recipes(), began_ns):
                if stop.is_set() or failed == _ENOUGH:
                    return
                if ref in tried:
                    continue
                tried.add(ref)
                try:
                    if not bucket.has(ref):
                        going.nbytes += send(bucket.objects, ref, store)
                        bucket.sent(ref)
                        going.items += 1
                except (HistillError, OSError):
                    failed += 1

    thread = threading.Thread(target=watch, name="sending", daemon=True)
    thread.start()
    try:
        yield going
    except BaseException:
        stop.set()
        raise
    stop.set()
    thread.join()


def _since(root: Path, recipes: Iterable[str], began_ns: int) -> Iterator[Ref]:
    """The items of recipes that were committed since then, sorted; those of kinds that stay here left out."""
    for recipe in sorted(recipes):
        kind, _, key = recipe.partition("/")
        if kind in LOCAL_KINDS:
            continue
        for file in sorted((root / recipe).glob(f"{ALL}/{ITEM_FILE}")):
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime_ns >= began_ns:
                    yield Ref(kind, key, file.parent.name)


def _now_ns(root: Path) -> int:
    """The time by the clock that items are dated by: the file system's. 0 where nothing can be written."""
    with contextlib.suppress(OSError):
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=root, prefix=".now-") as file:
            return Path(file.name).stat().st_mtime_ns
    return 0
