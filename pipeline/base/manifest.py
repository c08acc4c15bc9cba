"""A stage's manifest: a small deterministic JSON file that names what the stage made.

Sorted, without timestamps, host names or absolute paths, so that an unchanged result is an unchanged file and DVC stops
there. The bytes themselves are in the store, under (kind, recipe key, item key).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from pipeline.base.errors import HistillError, ManifestError
from pipeline.base.files import write_json

VERSIONS = {"evaluate": 2, "benchmark": 3}
"""Of the form of each stage's manifest; 1 of those not named. To be raised when what its `summary` holds changes, so
that no page is made from keys that are not there: experiments keep manifests for years."""
STORED = ("tiles", "tokens")
"""Stages whose items are store items of the same name."""


class Refusal(BaseModel):
    """One slide that was not used, why, and what would make it usable."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    reason: str
    fix: str = ""

    @classmethod
    def of(cls, slide_id: str, error: HistillError) -> Refusal:
        """The refusal that an error about one slide amounts to."""
        return cls(id=slide_id, reason=error.what, fix=error.fix)


class Item(BaseModel):
    """One thing made: `id` for people (the slide id), `key` in the store, `digest` of its bytes, `n` rows in it.

    `recipe_key` is that of another recipe than the manifest's, where the item was made by one; else empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    key: str
    digest: str
    n: int = 0
    info: dict[str, Any] = {}
    recipe_key: str = ""

    @property
    def in_train(self) -> bool:
        """Whether it is of the split `train`: students learn from it."""
        return self.info.get("split") == "train"

    @model_serializer(mode="wrap")
    def _told(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a `recipe_key` that is the manifest's."""
        told: dict[str, Any] = handler(self)
        return told if self.recipe_key else {name: value for name, value in told.items() if name != "recipe_key"}


def _current(stage: str) -> int:
    return VERSIONS.get(stage, 1)


class Manifest(BaseModel):
    """What a stage made. `recipe` is all that its bytes depend on besides the item; `recipe_key` its hash.

    `uses` names store items (kind/recipe/item) that the result stands on besides its own: a calibration, a checkpoint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str
    recipe_key: str = ""
    recipe: dict[str, Any] = {}
    items: tuple[Item, ...] = ()
    refused: tuple[Refusal, ...] = ()
    summary: dict[str, Any] = {}
    uses: tuple[str, ...] = ()
    version: int = Field(default_factory=lambda told: _current(told.get("stage", "")))
    timings: dict[str, float] = Field(default={}, exclude=True)
    """What this run measured of itself: for the metrics, never for the file."""

    def require_version(self, where: str) -> None:
        """Raise `ManifestError` where another version of Histill wrote it, in another form."""
        if self.version != _current(self.stage):
            what = f"another version of Histill wrote it: form {self.version}, not {_current(self.stage)}"
            raise ManifestError(what, where=where, fix=f"dvc repro -s -f {self.stage}")

    def refs(self) -> set[str]:
        """Every store item that the manifest names, as kind/recipe/item."""
        own = {self.address(item) for item in self.items} if self.stage in STORED else set()
        return own | set(self.uses)

    def address(self, item: Item) -> str:
        """Where the store holds one of its items, as kind/recipe/item."""
        return f"{self.stage}/{item.recipe_key or self.recipe_key}/{item.key}"

    def item(self, slide_id: str) -> Item:
        """The item of that id. Raises `ManifestError`."""
        for item in self.items:
            if item.id == slide_id:
                return item
        raise ManifestError("no such item", where=f"{self.stage}: {slide_id}", fix="see the manifest's `items`")

    def save(self, path: Path | str) -> None:
        """Write atomically, items and refusals sorted by id."""
        ordered = self.model_copy(
            update={
                "items": tuple(sorted(self.items, key=lambda item: item.id)),
                "refused": tuple(sorted(self.refused, key=lambda refusal: refusal.id)),
            }
        )
        write_json(path, ordered.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path | str, stage: str) -> Manifest:
        """Read the manifest of `stage`. Raises `ManifestError` that names the command which makes it."""
        remedy = f"dvc repro {stage}"
        try:
            manifest = cls.model_validate_json(Path(path).read_bytes())
        except FileNotFoundError:
            raise ManifestError("manifest not found", where=str(path), fix=remedy) from None
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            raise ManifestError(f"not a manifest: {first}", where=str(path), fix=remedy) from None
        if manifest.stage != stage:
            raise ManifestError(f"stage {manifest.stage!r}, not {stage!r}", where=str(path), fix=remedy)
        manifest.require_version(str(path))
        return manifest
