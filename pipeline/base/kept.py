"""Figures kept in the store, so that a stage that runs again with all it depends on unchanged takes seconds.

    figures/<recipe key: which figures, their settings, the version>/<item key: what they are of>/figures.json

Figures are found again where all that they depend on is the same, and that is said by content: what they are of (the
basis, of which the item's key is the hash), the parameters that they take and the version of the code (both in the
recipe). A changed form of the figures is another recipe by itself. What is found and what has just been made are both
read from the file, so that they are the same to the last digit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.base.errors import CorruptItem
from pipeline.base.files import write_atomic, write_json
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.base.types import Json

KIND, FIGURES_FILE, BASIS_FILE = "figures", "figures.json", "basis.json"

Basis = Mapping[str, Json]
"""All that some figures are of, by content."""
R = TypeVar("R")


class Kept:
    """The store as one run of a stage sees it: all that it has found or kept there, its manifest names (`uses`)."""

    def __init__(self, store: Store, stage: str) -> None:
        self.store, self.remedy = store, f"dvc repro -s -f {stage}"
        self._used: set[str] = set()
        self._digests: dict[Ref, str] = {}

    @property
    def uses(self) -> tuple[str, ...]:
        """Every item that the run stands on so far, sorted."""
        return tuple(sorted(self._used))

    def use(self, ref: Ref) -> None:
        """The run stands on this item."""
        self._used.add(str(ref))

    def has(self, ref: Ref) -> bool:
        """Whether the item is there; if not, it is about to be, so either way the run stands on it."""
        self.use(ref)
        return self.store.has(ref)

    def digest(self, ref: Ref) -> str:
        """Of an item's files; each item is asked once."""
        if ref not in self._digests:
            self._digests[ref] = self.store.digest(ref)
        return self._digests[ref]

    def slot(self, recipe: Mapping[str, Json], basis: Basis, form: TypeAdapter[R]) -> Slot[R]:
        """Where some figures of type `form` are kept, or will be."""
        whole: dict[str, Json] = {**recipe, "form": _shape(form)}
        return Slot(self, Ref(KIND, recipe_key(whole), recipe_key(basis)), form, whole, basis)


@dataclass(frozen=True)
class Slot(Generic[R]):
    """One item of figures, there or not."""

    kept: Kept
    ref: Ref
    form: TypeAdapter[R]
    recipe: Mapping[str, Json]
    basis: Basis

    @property
    def folder(self) -> Path:
        """Of the item that is there."""
        return self.kept.store.open(self.ref, remedy=self.kept.remedy)

    def figures(self, make: Callable[[], R]) -> R:
        """Those that are kept, else made and kept."""
        found = self.find()
        return self.keep(make()) if found is None else found

    def find(self) -> R | None:
        """The figures, None where they are not kept yet. Raises `CorruptItem` where the file is damaged."""
        if not self.kept.has(self.ref):
            return None
        path = self.folder / FIGURES_FILE
        try:
            return self.form.validate_json(path.read_bytes())
        except (ValidationError, FileNotFoundError) as error:
            fix = f"delete {self.folder}, then {self.kept.remedy}"
            raise CorruptItem(f"not the figures that were kept: {error}", where=str(path), fix=fix) from None

    def keep(self, figures: R, files: Mapping[str, bytes] | None = None) -> R:
        """Write them, and the files that belong to them, and give back what is read from there."""
        with self.kept.store.write(self.ref, self.recipe) as partial:
            write_atomic(partial / FIGURES_FILE, self.form.dump_json(figures, indent=1) + b"\n", sync=False)
            write_json(partial / BASIS_FILE, dict(self.basis), sync=False)
            for name, data in (files or {}).items():
                write_atomic(partial / name, data, sync=False)
        found = self.find()
        assert found is not None
        return found


@functools.lru_cache
def _shape(form: TypeAdapter[Any]) -> str:
    """The key of a form: the same for each of its slots, and making its schema takes longer than to read figures."""
    return recipe_key({"schema": _bare(form.json_schema(mode="serialization"))})


def _bare(schema: Json) -> Json:
    """A JSON schema without what is said to people in it."""
    if isinstance(schema, Mapping):
        return {key: _bare(inner) for key, inner in schema.items() if key not in ("title", "description")}
    return [_bare(inner) for inner in schema] if isinstance(schema, list) else schema
