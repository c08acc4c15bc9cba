"""What the store asks of a bucket behind it. The room `remote` is one; the base knows only this."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pipeline.base.store import Ref, Store


class Remote(Protocol):
    """Committed items in another place, which are fetched whole. Pickles: workers ask it too."""

    def has(self, ref: Ref) -> bool:
        """Whether the item is there, complete."""

    def item_file(self, ref: Ref) -> bytes:
        """Its item.json. Raises `MissingItem`."""

    def bring(self, ref: Ref, store: Store) -> Path | None:
        """Fetch the item into the store; its folder, None where it is not there any more."""

    def learn(self, kind: str, root: Path) -> None:
        """Write the recipe.json of every recipe of a kind that the store at `root` has none of."""
