"""What a student is trained on: the tiles and cached tokens of the slides whose split is `train`.

Of several teachers each has a corpus of the same tiles, the first one's with the others' in `also`: what is asked of
one teacher's answers (statistics, a bank) is asked of its corpus.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays.far import far_of
from pipeline.base.elsewhere import gather
from pipeline.base.errors import TrainingError
from pipeline.base.items import TilesManifest, TokensItem, TokensManifest
from pipeline.base.store import Ref, Store
from pipeline.base.types import Rows
from pipeline.corpus.order import kept_count, kept_rows
from pipeline.tiles.item.reader import TileReader
from pipeline.tokens.item.reader import TokenReader
from pipeline.tokens.item.sums import SUM_ROWS
from pipeline.views import view_of_tile

CHUNK_ROWS = SUM_ROWS


@dataclass(frozen=True)
class Corpus:
    """The train slides, sorted by id; readers open their maps lazily and pickle only paths."""

    items: tuple[TokensItem, ...]
    tiles: tuple[TileReader, ...]
    tokens: tuple[TokenReader, ...]
    width: int
    views: int
    grid: tuple[int, int]
    dense: bool
    """Whether patch tokens are cached (layout `none` has none)."""
    store: Store | None = None
    """Where what is computed of all of it is kept."""
    fraction: float = 1.0
    """Share of each slide's tiles that is trained on; nothing that training sees comes from the others."""
    stain_L2S: NDArray[np.float64] | None = None
    """Mean and deviation of each slide's stains (`inputs.slide_stains`), where tiles are stained as another slide's."""
    teacher: str = ""
    """Whose answers they are."""
    also: tuple[Corpus, ...] = ()
    """Of the other teachers, the same tiles in the same order and views."""

    @property
    def each(self) -> tuple[Corpus, ...]:
        """One a teacher, this one's first."""
        return (self, *self.also)

    @property
    def rotation_block(self) -> int:
        """How the cached patch tokens were rotated, which is the recipe's; 1 is not at all."""
        return self.tokens[0].rotation_block

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """Tiles of each slide."""
        return tuple(item.n for item in self.items)

    def image(self, slide: int, row: int, view: int, px: int) -> NDArray[np.uint8]:
        """What the teacher answered in that view of that tile, replayed at the student's side: (px, px, 3) uint8."""
        views = self.tokens[slide].view_fields
        fields_P = views.fields(np.array([row]), np.array([view]))[0]
        return view_of_tile(self.tiles[slide].image(row, views.source_px or px), fields_P, px)

    @cached_property
    def is_far(self) -> bool:
        """Whether any of it is read from a bucket."""
        return any(far_of(folder) is not None for folder in self.folders)

    @property
    def folders(self) -> list[Path]:
        """Of all items that it reads."""
        found = [reader.folder for reader in self.tiles]
        return found + [reader.folder for one in self.each for reader in one.tokens]

    def prepare(self, slide: int, rows: Rows, dense: Collection[int]) -> None:
        """Have rows of a slide at hand before they are read; patch tokens of the teachers whose places `dense` has."""
        self.tiles[slide].prepare(rows)
        for place, one in enumerate(self.each):
            one.tokens[slide].prepare(rows, dense=place in dense)

    @property
    def total(self) -> int:
        """Tiles of all slides."""
        return sum(self.rows)

    def kept(self, slide: int) -> NDArray[np.int64]:
        """The rows of that slide that are trained on, sorted."""
        return kept_rows(self.rows[slide], self.fraction)

    @cached_property
    def kept_total(self) -> int:
        """Tiles that are trained on."""
        return sum(kept_count(n, self.fraction) for n in self.rows)

    def cls_chunks(self, slide: int, chunk_rows: int = CHUNK_ROWS) -> Iterator[NDArray[np.float16]]:
        """The cached CLS of a slide's tiles that are trained on, views as rows, (N, D) each."""
        rows = self.kept(slide)
        for start in range(0, len(rows), chunk_rows):
            yield self.tokens[slide].cls(rows[start : start + chunk_rows]).reshape(-1, self.width)


def open_corpus(tiles: TilesManifest, tokens: TokensManifest, store: Store, fraction: float = 1.0) -> Corpus:
    """The train slides of `tokens`, each with its tiles, of which `fraction` is trained on; of every teacher.

    Raises `TrainingError` where no slide is in the train split, a slide's tiles and tokens differ in number or
    teachers have answered other slides or views, and `MissingItem` where the store does not hold what a manifest names.
    """
    for made in (tiles, *tokens.each):
        store.require(made)
    first, *also = (_of_one(tiles, one, store, fraction) for one in tokens.each)
    for one, manifest in zip(also, tokens.also, strict=True):
        same = [item.id for item in one.items] == [item.id for item in first.items] and one.views == first.views
        if not same or manifest.recipe.get("augment") != tokens.recipe.get("augment"):
            what = f"teachers {first.teacher} and {one.teacher} have answered other tiles or views of them"
            raise TrainingError(what, where="tokens.json", fix="dvc repro tokens")
    return replace(first, also=tuple(also))


def _of_one(tiles: TilesManifest, tokens: TokensManifest, store: Store, fraction: float) -> Corpus:
    train = sorted((item for item in tokens.items if item.in_train and item.n > 0), key=lambda item: item.id)
    if not train:
        fix = "give slides the split `train` in the slide table, or add slides"
        raise TrainingError(f"none of {len(tokens.items)} slides with tiles is in the train split", fix=fix)
    tiled = tiles.by_id()
    tile_readers, token_readers = [], []
    with_tiles = [tiled[item.id] for item in train if item.id in tiled]
    gather(store, [*(Ref.of(tiles, item) for item in with_tiles), *(Ref.of(tokens, item) for item in train)])
    for item in train:
        its_tiles = tiled.get(item.id)
        if its_tiles is None:
            raise tiles.no_such_item(item.id)
        if its_tiles.n != item.n:
            raise TrainingError(f"{its_tiles.n} tiles, but tokens of {item.n}", where=item.id, fix="dvc repro tokens")
        tile_readers.append(TileReader(store.open(Ref.of(tiles, its_tiles), remedy="dvc repro tiles")))
        token_readers.append(TokenReader(store.open(Ref.of(tokens, item), remedy="dvc repro tokens")))
    first, told = token_readers[0], tokens.recipe.get("teacher")
    return Corpus(
        tuple(train),
        tuple(tile_readers),
        tuple(token_readers),
        width=first.width,
        views=first.views,
        grid=first.grid,
        dense=first.layout != "none",
        store=store,
        fraction=fraction,
        teacher=str(told.get("name", "")) if isinstance(told, dict) else "",
    )
