"""Figures kept in the store, so that a second evaluation of the same student takes seconds.

    figures/<recipe key: which figures, their settings, the version>/<item key: what they are of>/figures.json

A figure is found again where all that it depends on is the same, and that is said by content: the student's weights,
the tiles and tokens with their checksums, the chosen rows, labels, groups and masks (its basis, which is the item's
key), and the parameters that it takes (its settings, in the recipe's). The code is said by `RECIPE_VERSION`: raise it
with every change after which some figure differs; a changed form of the figures needs no raise. What is found and what
has just been made are both read from the file, so that they are the same to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from pipeline.base.files import write_atomic, write_json
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.base.types import Json
from pipeline.evaluate.selection import Sample

KIND = "figures"
RECIPE_VERSION = 5
"""Of every figure of stage `evaluate`, and of its manifest."""
FIGURES_FILE, BASIS_FILE = "figures.json", "basis.json"

Basis = Mapping[str, Json]
"""All that some figures are of, by content."""
R = TypeVar("R")


class Recall:
    """The store as one evaluation sees it: what it has found or kept there is what its manifest names (`uses`)."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._used: set[str] = set()
        self._digests: dict[Ref, str] = {}

    def digest(self, kind: str, folder: Path) -> str:
        """Of the files of an item that lies in this folder."""
        ref = Ref(kind, *folder.parts[-2:])
        if ref not in self._digests:
            self._digests[ref] = self.store.digest(ref)
        return self._digests[ref]

    def tiles(self, samples: Sequence[Sample]) -> str:
        """32 hex digits of all by which figures of these tiles may differ: their bytes, tokens, rows, labels, names."""
        told = [
            {
                "tiles": self.digest("tiles", sample.tiles),
                "tokens": self.digest("tokens", sample.tokens),
                "rows": sample.rows.tolist(),
                **{name: value for name, value in vars(sample).items() if name not in ("tiles", "tokens", "rows")},
            }
            for sample in samples
        ]
        return recipe_key({"samples": told})

    @property
    def uses(self) -> tuple[str, ...]:
        """Every item that the evaluation stands on so far, sorted."""
        return tuple(sorted(self._used))

    def use(self, ref: Ref) -> None:
        """The evaluation stands on this item."""
        self._used.add(str(ref))

    def has(self, ref: Ref) -> bool:
        """Whether the item is there; if not, it is about to be, so either way the evaluation stands on it."""
        self.use(ref)
        return self.store.has(ref)

    def slot(self, part: str, form: TypeAdapter[R], settings: Mapping[str, Json], basis: Basis) -> Slot[R]:
        """Where some figures are kept, or will be: `part` is their name, `form` their type."""
        shape = recipe_key({"schema": _bare(form.json_schema(mode="serialization"))})
        recipe: dict[str, Json] = {
            "figures": part,
            "settings": dict(settings),
            "form": shape,
            "recipe_version": RECIPE_VERSION,
        }
        return Slot(self, Ref(KIND, recipe_key(recipe), recipe_key(basis)), form, recipe, basis)


@dataclass(frozen=True)
class Slot(Generic[R]):
    """One item of figures, there or not."""

    recall: Recall
    ref: Ref
    form: TypeAdapter[R]
    recipe: Mapping[str, Json]
    basis: Basis

    @property
    def folder(self) -> Path:
        """Of the item that is there."""
        return self.recall.store.open(self.ref, remedy="dvc repro -s -f evaluate")

    def figures(self, make: Callable[[], R]) -> R:
        """Those that are kept, else made and kept."""
        found = self.find()
        return self.keep(make()) if found is None else found

    def find(self) -> R | None:
        """The figures, None where they are not kept yet."""
        if not self.recall.has(self.ref):
            return None
        return self.form.validate_json((self.folder / FIGURES_FILE).read_bytes())

    def keep(self, figures: R, files: Mapping[str, bytes] | None = None) -> R:
        """Write them, and the files that belong to them, and give back what is read from there."""
        with self.recall.store.write(self.ref, self.recipe) as partial:
            write_atomic(partial / FIGURES_FILE, self.form.dump_json(figures, indent=1) + b"\n")
            write_json(partial / BASIS_FILE, dict(self.basis))
            for name, data in (files or {}).items():
                write_atomic(partial / name, data)
        found = self.find()
        assert found is not None
        return found


def _bare(schema: Any) -> Any:
    """A JSON schema without what is said to people in it."""
    if isinstance(schema, dict):
        return {key: _bare(inner) for key, inner in schema.items() if key not in ("title", "description")}
    return [_bare(inner) for inner in schema] if isinstance(schema, list) else schema
