"""What all processes of a run of the tokens stage are told, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from pipeline.base.errors import SlideRefused
from pipeline.base.items import TilesItem
from pipeline.base.manifest import fact_of
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.base.types import Recipe
from pipeline.params.tokens import TokensParams
from pipeline.teachers.statistics import Calibration
from pipeline.tiles.item.content import Found
from pipeline.tiles.item.meta import IMAGES
from pipeline.tiles.item.reader import TileReader
from pipeline.tokens import calibration
from pipeline.tokens.recipe import by_content, one_view
from pipeline.tokens.run.answered import Answered
from pipeline.tokens.run.spent import Spent

Picked = tuple[tuple[TilesItem, int], ...]
"""Tiles picked out of several slides: (slide's item, row)."""


@dataclass(frozen=True)
class Job:
    """One run. `golden` tiles are the gate's; `threads` each process computes with, None leaves them as they are."""

    tiles_recipe: Recipe
    recipe: Recipe
    params: TokensParams
    store: Store
    demo_px: int
    golden: Picked = ()
    threads: int | None = None

    @property
    def key(self) -> str:
        """The recipe's key in the store."""
        return recipe_key(self.recipe)

    @property
    def tile_px(self) -> int:
        """Side of the tiles, as the tiles stage was asked for it."""
        return fact_of(self.tiles_recipe, "tile_px", int, "tiles")

    @property
    def calibration(self) -> Ref:
        """Where the frozen calibration is, or will be: train and held-out slides share it."""
        return Ref("tokens", recipe_key(self.held_out.recipe), calibration.ITEM)

    @property
    def held_out(self) -> Job:
        """The same for slides that nothing is trained on: one view."""
        return replace(self, recipe=one_view(self.recipe), params=self.params.one_view)

    @property
    def of_images(self) -> Job:
        """The same for folders of images that are trained on."""
        return replace(self, recipe=by_content(self.recipe))

    def of(self, item: TilesItem) -> Job:
        """This one for a train slide, `of_images` for such a folder, else `held_out`; they may come to the same."""
        if not item.in_train and self.params.n_views > 1:
            return self.held_out
        return self.of_images if item.kind in IMAGES else self

    @cached_property
    def answered(self) -> Answered:
        """What the store has of the recipe, by the content of the tiles."""
        return Answered(self.store, self.key, recipe_key(self.tiles_recipe))

    def ref(self, item_key: str) -> Ref:
        """Where a slide's tokens are, or will be."""
        return Ref("tokens", self.key, item_key)

    def reader(self, item: TilesItem) -> TileReader:
        """The slide's tiles. Raises `MissingItem`."""
        ref = Ref("tiles", recipe_key(self.tiles_recipe), item.key)
        return TileReader(self.store.open(ref, remedy="dvc repro tiles"))

    def frozen(self) -> Calibration | None:
        """The calibration that the store holds; None where only CLS is kept."""
        return None if self.params.patch == "none" else calibration.load(self.store.path(self.calibration))

    @property
    def has_frozen(self) -> bool:
        """Whether nothing is left to be calibrated."""
        return self.params.patch == "none" or self.store.has(self.calibration)

    def known(self, items: Sequence[TilesItem]) -> dict[str, Found]:
        """Where the store has the answers to tiles of these items, by the items' keys (run/answered.py)."""
        return self.answered.find(items, self.frozen()) if self.has_frozen else {}


@dataclass
class Outcome:
    """What became of some slides: tiles computed, or cached already; slides refused by their key; where time went.

    `elsewhere` are the keys of those that another process was at, and that were passed over.
    """

    tiles: int = 0
    cached: int = 0
    refused: dict[str, SlideRefused] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)
    spent: Spent = field(default_factory=Spent)

    def add(self, other: Outcome) -> None:
        """Another process's slides and seconds too."""
        self.tiles += other.tiles
        self.cached += other.cached
        self.refused |= other.refused
        self.elsewhere |= other.elsewhere
        for name, seconds in other.spent.items():
            self.spent.add(name, seconds)
