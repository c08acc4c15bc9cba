"""What the store asks of a bucket behind it. The room `remote` is one; the base knows only this."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pipeline.base.store import Ref, Store


class Remote(Protocol):
    """Committed items in another place. Pickles: workers ask it too."""

    def has(self, ref: Ref) -> bool:
        """Whether the item is there, complete."""

    def item_file(self, ref: Ref) -> bytes:
        """Its item.json. Raises `MissingItem`."""

    def bring(self, ref: Ref, store: Store) -> Path | None:
        """Have the item here, whole or but for what is read where it lies; its folder, None where it is gone."""

    def learn(self, kind: str, root: Path) -> None:
        """Write the recipe.json of every recipe of a kind that the store at `root` has none of."""


_THREADS = 16
"""Items on their way at a time, of which each waits for answers most of the while."""


def gather(store: Store, refs: Iterable[Ref]) -> None:
    """Have items here that only the bucket has, several at a time; those that nobody has are left to who opens them."""
    remote = store.remote
    if remote is None:
        return
    wanted = [ref for ref in refs if not store.is_here(ref)]
    # The first of a recipe lists it, and the others need no answer of their own.
    far = [ref for ref in wanted if remote.has(ref)]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(store.path, far))
