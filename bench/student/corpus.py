"""A corpus for the bench, written as the tiles and tokens stages write theirs: real JPEG tiles, tokens of ViT-L.

Tiles are 224 px of smooth noise in H&E's colours, JPEG q95 4:4:4 of about 25 KB as real ones have; tokens are seeded
int8 of 196 x 1024 with their scales. 2,000 tiles take 0.45 GB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.base.items import TRAIN, TilesItem, TilesManifest, TokensItem, TokensManifest
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.teachers.statistics import Calibration
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg
from pipeline.tokens.item.writer import TokensForm, TokenWriter

TILE_PX, GRID, WIDTH = 224, (14, 14), 1024
_PINK, _PURPLE = np.array([230.0, 170.0, 200.0]), np.array([110.0, 60.0, 140.0])
_PATTERN_PX = 1024


def make_corpus(root: Path, slides: int, tiles_per_slide: int, seed: int = 0) -> Corpus:
    """A store under `root` with so many train slides, opened."""
    store, rng = Store(root), np.random.default_rng(seed)
    tiles_recipe: dict[str, Any] = {"tile_px": TILE_PX, "made": "bench"}
    tokens_recipe: dict[str, Any] = {"tiles": recipe_key(tiles_recipe), "made": "bench"}
    recipes = {"tiles": tiles_recipe, "tokens": tokens_recipe}
    pattern = _pattern(rng)
    tiles: list[TilesItem] = []
    tokens: list[TokensItem] = []
    for slide in range(slides):
        for kind, recipe in recipes.items():
            ref = Ref(kind, recipe_key(recipe), f"slide-{slide:04}")
            with store.write(ref, recipe) as folder:
                if kind == "tiles":
                    _write_tiles(folder, pattern, tiles_per_slide, rng)
                else:
                    _write_tokens(folder, tiles_per_slide, rng)
            name, digest, n = ref.item, store.digest(ref), tiles_per_slide
            if kind == "tiles":
                tiles.append(
                    TilesItem(id=name, key=name, digest=digest, n=n, kind="file", split=TRAIN, tissue_mm2=None)
                )
            else:
                tokens.append(TokensItem(id=name, key=name, digest=digest, n=n, kind="file", split=TRAIN))
    return open_corpus(
        TilesManifest(recipe_key=recipe_key(tiles_recipe), recipe=tiles_recipe, items=tuple(tiles)),
        TokensManifest(recipe_key=recipe_key(tokens_recipe), recipe=tokens_recipe, items=tuple(tokens)),
        store,
    )


def _pattern(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Tissue-like texture to cut tiles from, (_PATTERN_PX, _PATTERN_PX, 3)."""
    noise = sum(gaussian_filter(rng.normal(size=(_PATTERN_PX, _PATTERN_PX)), s, mode="wrap") * s for s in (1, 4, 16))
    share_HW1 = 1 / (1 + np.exp(-2.0 * np.asarray(noise)))[..., None]
    grain_HWC = rng.normal(scale=2, size=(_PATTERN_PX, _PATTERN_PX, 3))
    return np.clip(_PINK * share_HW1 + _PURPLE * (1 - share_HW1) + grain_HWC, 0, 255).astype(np.uint8)


def _write_tiles(folder: Path, pattern: NDArray[np.uint8], n: int, rng: np.random.Generator) -> None:
    writer = TileWriter(folder)
    for y, x in rng.integers(0, _PATTERN_PX - TILE_PX, (n, 2)):
        writer.append(encode_jpeg(pattern[y : y + TILE_PX, x : x + TILE_PX], 95))
    writer.close(Meta(kind="file", tile_px=TILE_PX))


def _write_tokens(folder: Path, n: int, rng: np.random.Generator) -> None:
    frozen = Calibration(np.zeros(WIDTH, np.float32), np.ones(WIDTH, np.float32))
    form = TokensForm(n, 1, GRID, WIDTH, "int8")
    writer, tokens = TokenWriter(folder, form, frozen), form.tokens
    for chunk, rows in writer.missing():
        shape = (len(rows), 1, tokens, WIDTH)
        patch_NVTD = rng.integers(-127, 128, shape, np.int8)
        scale_NVT = rng.uniform(0.01, 0.04, shape[:3]).astype(np.float16)
        cls_NVD = rng.normal(size=(len(rows), 1, WIDTH)).astype(np.float16)
        writer.write(chunk, cls_NVD, patch_NVTD, scale_NVT)
    writer.close()
