"""Tiles of noise in a store, written by the tiles room's own writer, and the tiles.json that names them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from made.items import tiles_item

from pipeline.base.items import TilesItem, TilesManifest, TokensManifest
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.base.types import Recipe
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg

SIDE_PX = 32
RECIPE: Recipe = {"made": "for tests", "tile_px": SIDE_PX, "jpeg_quality": 90}


def recipe_of(coarse: int) -> Recipe:
    """Of tiles, some of which may be of a second scale."""
    return {**RECIPE, "also_mpp": [1.0]} if coarse else RECIPE


def put_slide(
    store: Store, slide_id: str, n: int, split: str = "train", bad_row: int | None = None, coarse: int = 0
) -> TilesItem:
    """A slide of n tiles; `bad_row` holds bytes that are no image, the last `coarse` are at 1 um/px, others at 0.5."""
    recipe = recipe_of(coarse)
    ref = Ref("tiles", recipe_key(recipe), f"key-{slide_id}")
    rng = np.random.default_rng(list(slide_id.encode()))
    if not store.has(ref):
        with store.write(ref, recipe) as folder:
            writer = TileWriter(folder)
            for row in range(n):
                coarse_HWC = rng.integers(0, 256, (4, 4, 3), np.uint8)
                jpeg = encode_jpeg(np.kron(coarse_HWC, np.ones((8, 8, 1), np.uint8)), 90)
                if coarse and row == n - coarse:
                    writer.are_of(0.5)
                writer.append(b"no image" if row == bad_row else jpeg)
            if coarse:
                writer.are_of(1.0)
            writer.close(Meta(kind="file", tile_px=1))
    return tiles_item(slide_id, n, split, key=ref.item, digest=store.digest(ref), kind="file")


def tiles_json(store: Store, slides: Mapping[str, int], **options: int | str) -> TilesManifest:
    """tiles.json of slides {id: number of tiles}."""
    items = tuple(put_slide(store, slide_id, n, **options) for slide_id, n in slides.items())
    recipe = recipe_of(int(options.get("coarse", 0)))
    return TilesManifest(recipe_key=recipe_key(recipe), recipe=recipe, items=items)


def file_bytes(store: Store, manifest: TokensManifest, slide_id: str) -> dict[str, bytes]:
    """Every file of a slide's tokens."""
    folder = store.path(Ref("tokens", manifest.recipe_key, manifest.item(slide_id).key))
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
