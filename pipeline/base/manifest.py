"""The frame of every stage's manifest: a small deterministic JSON file that names what the stage made.

Sorted, without timestamps, host names or absolute paths, so that an unchanged result is an unchanged file and DVC stops
there. The bytes themselves are in the store, under (kind, recipe key, item key).

A stage's own manifest is a subclass that says what its items and its summary are (items.py for the stages that others
go on from). `version` numbers its form: count it up when a field of an item or of the summary changes. A manifest of
another form is an error that names the command, since experiments keep theirs for years; what it names in the store
can be read all the same (`Outline`).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from pipeline.base.errors import HistillError, ManifestError
from pipeline.base.files import write_json
from pipeline.base.types import Json, Recipe

IN_STORE = ("tiles", "tokens")
"""Stages whose items are items of the store, of the same name."""
Fact = TypeVar("Fact", int, float, str)


def fact_of(recipe: Recipe, name: str, kind: type[Fact], stage: str) -> Fact:
    """A number or a text of a recipe of `stage`. Raises `ManifestError` where it has none of that name and type."""
    value = recipe.get(name)
    if kind is float and isinstance(value, int):
        value = float(value)
    if not isinstance(value, kind):
        raise ManifestError(f"its recipe has no {name}", where=f"{stage}.json", fix=f"dvc repro {stage}")
    return value


class Refusal(BaseModel):
    """One slide that was not used, why, and what would make it usable."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    reason: str
    fix: str = ""
    passing: bool = False
    """Whether the next run may find it usable: then the stage that says so fails, once all else is done."""

    @classmethod
    def of(cls, slide_id: str, error: HistillError) -> Refusal:
        """The refusal that an error about one slide amounts to."""
        return cls(id=slide_id, reason=error.what, fix=error.fix, passing=error.passing)

    @model_serializer(mode="wrap")
    def _told(self, handler: SerializerFunctionWrapHandler) -> dict[str, Json]:
        """Without a `passing` that is not so."""
        told: dict[str, Json] = handler(self)
        return told if self.passing else {name: value for name, value in told.items() if name != "passing"}


class ItemName(BaseModel):
    """What a thing made is called: `id` by people (the slide id), `key` in the store.

    `recipe_key` is that of another recipe than the manifest's, where the item was made by one; else empty.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    id: str
    key: str
    recipe_key: str = ""


class Item(ItemName):
    """One thing made: `digest` of its bytes, `n` rows in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    digest: str
    n: int = 0
    rare: ClassVar[tuple[str, ...]] = ("recipe_key",)
    """Fields that are written only where they say something, so that a form that lacks them is the same form."""

    @model_serializer(mode="wrap")
    def _told(self, handler: SerializerFunctionWrapHandler) -> dict[str, Json]:
        """Without the `rare` fields that say nothing: a `recipe_key` that is the manifest's."""
        told: dict[str, Json] = handler(self)
        return {name: value for name, value in told.items() if value or name not in self.rare}


class Outline(BaseModel):
    """What every manifest has said in every form so far: who made it, what was refused, what it names in the store.

    `uses` names store items (kind/recipe/item) that the result stands on besides its own: a calibration, a checkpoint.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    stage: str
    version: int = 1
    recipe_key: str = ""
    items: tuple[ItemName, ...] = ()
    refused: tuple[Refusal, ...] = ()
    uses: tuple[str, ...] = ()

    def refs(self) -> set[str]:
        """Every store item that the manifest names, as kind/recipe/item."""
        own = {self.address(item) for item in self.items} if self.stage in IN_STORE else set()
        return own | set(self.uses)

    def address(self, item: ItemName) -> str:
        """Where the store holds one of its items, as kind/recipe/item."""
        return f"{self.stage}/{item.recipe_key or self.recipe_key}/{item.key}"


ItemT = TypeVar("ItemT", bound=Item, covariant=True)
SummaryT = TypeVar("SummaryT", covariant=True)


class Manifest(Outline, Generic[ItemT, SummaryT]):
    """What a stage made. `recipe` is all that its bytes depend on besides the item; `recipe_key` its hash."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    items: tuple[ItemT, ...] = ()
    recipe: Recipe = {}
    summary: SummaryT
    timings: dict[str, float] = Field(default={}, exclude=True)
    """What this run measured of itself: for the metrics, never for the file."""

    @classmethod
    def made_by(cls) -> str:
        """The stage whose manifest this is."""
        return str(cls.model_fields["stage"].default)

    @classmethod
    def form(cls) -> int:
        """The number of the form that this version of Histill reads and writes."""
        return int(cls.model_fields["version"].default)

    @classmethod
    def require_form(cls, found: Outline, where: str) -> None:
        """Raise `ManifestError` where another version of Histill wrote it, in another form."""
        if found.version != cls.form():
            what = f"another version of Histill wrote it: form {found.version}, not {cls.form()}"
            raise ManifestError(what, where=where, fix=f"dvc repro {cls.made_by()}")

    def by_id(self) -> dict[str, ItemT]:
        """The items by id; made anew at each call."""
        return {item.id: item for item in self.items}

    def item(self, slide_id: str) -> ItemT:
        """The item of that id, sought among all: whoever wants many takes `by_id`. Raises `ManifestError`."""
        for item in self.items:
            if item.id == slide_id:
                return item
        raise self.no_such_item(slide_id)

    def no_such_item(self, slide_id: str) -> ManifestError:
        """What is raised where it has no item of that id."""
        return ManifestError("no such item", where=f"{self.stage}: {slide_id}", fix="see the manifest's `items`")

    def fact(self, name: str, kind: type[Fact]) -> Fact:
        """A number or a text of the recipe. Raises `ManifestError` where it has none of that name and type."""
        return fact_of(self.recipe, name, kind, self.stage)

    def numbers(self) -> dict[str, float]:
        """The summary's numbers, by name: what the metrics show."""
        summary = self.model_dump(include={"summary"})["summary"]
        return {name: value for name, value in summary.items() if isinstance(value, int | float)}

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
    def load(cls, path: Path | str) -> Self:
        """Read it. Raises `ManifestError` that names the command which makes it."""
        remedy = f"dvc repro {cls.made_by()}"
        try:
            data = Path(path).read_bytes()
            outline = Outline.model_validate_json(data)
            if outline.stage != cls.made_by():
                raise ManifestError(f"stage {outline.stage!r}, not {cls.made_by()!r}", where=str(path), fix=remedy)
            cls.require_form(outline, str(path))
            return cls.model_validate_json(data)
        except FileNotFoundError:
            raise ManifestError("manifest not found", where=str(path), fix=remedy) from None
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            raise ManifestError(f"not a manifest: {first}", where=str(path), fix=remedy) from None
