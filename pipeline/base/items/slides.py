"""The items and manifests of `slides`, `tiles` and `tokens`: a slide, its tiles, and what a teacher answers to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from pipeline.base.manifest import Item, Manifest
from pipeline.base.types import Frozen, Json

TRAIN = "train"
"""The split that students learn from; every other one is held out."""
WITH_TISSUE = ("pen", "blank", "blurred", "damaged")
"""Reasons for which a tile with tissue on it is dropped; `glass` and `edge` are no loss."""
Level = tuple[int, int, float]
"""Width and height in pixels, and the downsample."""


class SlideFile(Item):
    """What a slide's own file, or folder of images, says; `mask`, `coords`, `features`: digests of the files beside it.

    A folder has no size in pixels and no levels, and an `mpp` (um per level-0 pixel, x and y) only from the table.
    """

    kind: Literal["file", "folder", "demo"]
    vendor: str
    width_px: int | None = None
    height_px: int | None = None
    mpp: tuple[float, float] | None = None
    mpp_from: str | None = None
    levels: tuple[Level, ...] = ()
    nbytes: int
    mask: str | None = None
    coords: str | None = None
    features: str | None = None
    rare: ClassVar[tuple[str, ...]] = (*Item.rare, "features")


class OfSlide(Item):
    """Made of one slide, or of one split of a data set of `images`: what the table says of it, the split resolved."""

    kind: Literal["file", "folder", "demo", "images"]
    split: str
    label: str | None = None
    patient: str | None = None

    @property
    def in_train(self) -> bool:
        """Whether students learn from it."""
        return self.split == TRAIN


class SlideItem(SlideFile, OfSlide):
    """One slide of the catalogue; n = 1, or the images of a folder."""

    kind: Literal["file", "folder", "demo"]


class TilesItem(OfSlide):
    """One slide's n tiles.

    `dropped` counts what was left out by reason, `labels` the tiles that have each label. `reader` is how pixels were
    read and `as_scanned` how many tiles are the file's own JPEG; a folder of images has neither, and no tissue area.
    `remarks` are for people: what took much of its tissue, and what is odd about its mask or its coordinates.
    `features` is the digest of the file of answers that the table names for these tiles.
    """

    tissue_mm2: float | None
    dropped: Mapping[str, int] = Field(default={})
    labels: Mapping[str, int] = Field(default={})
    reader: str | None = None
    as_scanned: int | None = None
    remarks: tuple[str, ...] = ()
    features: str | None = None
    rare: ClassVar[tuple[str, ...]] = (*Item.rare, "features")


class TokensItem(OfSlide):
    """The teacher's answers to one slide's n tiles."""

    @classmethod
    def of(cls, tiles: TilesItem, key: str, digest: str, recipe_key: str = "") -> TokensItem:
        """Those to `tiles`, under that key and of that digest; `recipe_key` where it is not the manifest's own."""
        of_slide = {name: getattr(tiles, name) for name in OfSlide.model_fields}
        return cls(**{**of_slide, "key": key, "digest": digest, "recipe_key": recipe_key})


class SlidesSummary(Frozen):
    """Of all usable slides."""

    slides: int = 0
    nbytes: int = 0


class TilesSummary(Frozen):
    """Of all tiled slides; `nbytes` in the store."""

    slides: int = 0
    tiles: int = 0
    tissue_mm2: float = 0.0
    nbytes: int = 0


class ImportedFacts(Frozen):
    """Where answers come from that were not computed here: the `tool`, its `encoder` as it is named there, the `dtype`.

    `mean_cosine` and `worst_cosine` are of the teacher's own answers to `checked_tiles` of these tiles with the
    imported ones, standardised; without a teacher to ask they are None, and `why` says why.
    """

    tool: str
    encoder: str | None
    dtype: str
    checked_tiles: int = 0
    mean_cosine: float | None = None
    worst_cosine: float | None = None
    why: str = ""


class TokensSummary(Frozen):
    """Of all answered slides: `views` of a train tile, `width` channels, `tokens` a tile; `nbytes` in the store.

    `imported` is None where the teacher has answered here.
    """

    slides: int = 0
    tiles: int = 0
    views: int = 0
    width: int = 0
    tokens: int = 0
    nbytes: int = 0
    imported: ImportedFacts | None = None

    @model_serializer(mode="wrap")
    def _told(self, handler: SerializerFunctionWrapHandler) -> dict[str, Json]:
        """Without an `imported` that says nothing."""
        told: dict[str, Json] = handler(self)
        return told if self.imported else {name: value for name, value in told.items() if name != "imported"}


UNKNOWN = "unknown"
"""The digest of weights that are not here: of a teacher whose features were imported."""


class TeacherFacts(BaseModel):
    """What the recipe of tokens says of their teacher, as far as others read it; the rest is kept along."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str
    weights_digest: str
    width: int
    grid: tuple[int, int]
    input_px: int


class SlidesManifest(Manifest[SlideItem, SlidesSummary]):
    """artifacts/slides.json."""

    stage: Literal["slides"] = "slides"
    version: int = 2
    summary: SlidesSummary = SlidesSummary()


class TilesManifest(Manifest[TilesItem, TilesSummary]):
    """artifacts/tiles.json."""

    stage: Literal["tiles"] = "tiles"
    version: int = 3
    summary: TilesSummary = TilesSummary()

    @property
    def tile_px(self) -> int:
        """Side of a tile, as the stage was asked for it."""
        return self.fact("tile_px", int)

    @property
    def jpeg_quality(self) -> int:
        """That tiles were encoded with."""
        return self.fact("jpeg_quality", int)

    @property
    def overlap_px(self) -> int:
        """Pixels that neighbouring tiles of the grid share."""
        return self.fact("overlap_px", int)

    @property
    def target_mpp(self) -> float | None:
        """um per pixel of a tile; None for a tiling whose recipe names none."""
        return None if self.recipe.get("target_mpp") is None else self.fact("target_mpp", float)


class TokensManifest(Manifest[TokensItem, TokensSummary]):
    """artifacts/tokens.json: one teacher's answers, and beside them those of further teachers to the same tiles."""

    stage: Literal["tokens"] = "tokens"
    version: int = 2
    summary: TokensSummary = TokensSummary()
    also: tuple[TokensManifest, ...] = ()

    @property
    def each(self) -> tuple[TokensManifest, ...]:
        """One a teacher; the first is this one, in whose teacher's space students answer."""
        return (self, *self.also)

    @property
    def teacher(self) -> TeacherFacts:
        """Whose answers they are."""
        return TeacherFacts.model_validate(self.recipe.get("teacher"))

    @property
    def precision(self) -> str:
        """In which the teacher ran."""
        return self.fact("precision", str)

    @model_serializer(mode="wrap")
    def _told(self, handler: SerializerFunctionWrapHandler) -> dict[str, Json]:
        """Without an `also` that names no teacher."""
        told: dict[str, Json] = handler(self)
        return told if self.also else {name: value for name, value in told.items() if name != "also"}
