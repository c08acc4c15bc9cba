"""Which items are meant: by who names them, kind, recipe and slide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.base.store import Ref
from pipeline.upkeep.checkout import WORKSPACE
from pipeline.upkeep.named import Named


@dataclass(frozen=True)
class Choice:
    """`place` is a branch, a tag, an experiment or `workspace`, and None means whatever is there, named or not.

    `kind` and `slide` are whole names, `recipe` a key's beginning; empty ones leave all.
    """

    place: str | None = WORKSPACE
    kind: str = ""
    recipe: str = ""
    slide: str = ""

    def of(self, named: Named, there: Iterable[Ref]) -> list[Ref]:
        """The items of this choice, sorted; `there` are all that are to be chosen from where no place is given."""
        refs = there if self.place is None else (Ref.parse(text) for text in self._named(named))
        return sorted((ref for ref in refs if self._meant(ref, named)), key=str)

    def _named(self, named: Named) -> list[str]:
        return [text for text, places in named.by.items() if any(self._is(place) for place in places)]

    def _is(self, place: str) -> bool:
        """Experiments are named by their last word, as `dvc exp` shows them."""
        return place == self.place or place.endswith(f"/{self.place}")

    def _meant(self, ref: Ref, named: Named) -> bool:
        of_slide = not self.slide or named.slides.get(str(ref)) == self.slide
        return of_slide and self.kind in ("", ref.kind) and ref.recipe.startswith(self.recipe)
