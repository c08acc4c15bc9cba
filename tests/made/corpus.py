"""A small corpus written as the tiles and tokens stages write theirs: coloured tiles, answers that depend on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from made.items import tiles_item, tokens_item

from kernels.epilogue import fold, quantise
from kernels.hadamard.blocks import block_of
from pipeline.base.arrays import ArrayWriter, balanced_rows
from pipeline.base.items import TilesManifest, TokensManifest
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.params.student import StudentParams
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg
from pipeline.views import apply_view

TILE_PX, GRID, WIDTH = 32, (4, 4), 24
SLIDES = {"alpha": ("train", 13), "beta": ("train", 20), "gamma": ("test", 5), "delta": ("train", 7)}

ALL_CHANGES: dict[str, Any] = {
    "stain_scale": 0.2,
    "stain_shift": 0.05,
    "stain_transfer": 0.5,
    "share": 0.8,
    "blur_sigma": 1.0,
    "noise_sigma": 0.02,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "jpeg_quality": 50,
}
"""Of the student's tiles, every one there is (`student.augment`)."""


def tiny(**changed: Any) -> StudentParams:
    """Parameters for a training of seconds."""
    small: dict[str, Any] = {
        "model": "test_efficientnet",
        "epochs": 2,
        "batch_size": 8,
        "block_rows": 4,
        "buffer_rows": 16,
        "checkpoint_minutes": 0,
        "workers": 2,
    }
    return StudentParams.model_validate(small | changed)


def write_corpus(
    store: Store, *, views: int = 1, patch: str = "int8", seed: int = 0
) -> tuple[TilesManifest, TokensManifest]:
    """Tiles and tokens of `SLIDES`, committed; the two manifests.

    Tokens are a fixed random projection of each cell's mean colour, the CLS is the tokens' mean: what a student can
    learn, and what a view turns as the teacher's answer would turn.
    """
    tiles_recipe = {"tile_px": TILE_PX, "target_mpp": 0.5, "seed": seed}
    teacher = {"name": "synthetic", "width": WIDTH, "grid": list(GRID), "input_px": TILE_PX, "weights_digest": "0" * 64}
    tokens_recipe = {"tiles": recipe_key(tiles_recipe), "teacher": teacher, "patch": patch, "views": views}
    rng = np.random.default_rng(seed)
    project = rng.normal(size=(3, WIDTH)) * 3
    tiles, tokens = [], []
    for slide_id, (split, n) in SLIDES.items():
        image_NHWC = _images(rng, n)
        for kind, recipe in (("tiles", tiles_recipe), ("tokens", tokens_recipe)):
            ref = Ref(kind, recipe_key(recipe), f"key-{slide_id}")
            with store.write(ref, recipe) as folder:
                if kind == "tiles":
                    _write_tiles(folder, image_NHWC)
                else:
                    _write_tokens(folder, image_NHWC, project, views, patch)
            made, item = (tiles, tiles_item) if kind == "tiles" else (tokens, tokens_item)
            made.append(item(slide_id, n, split, key=ref.item, digest=store.digest(ref), kind="demo"))
    return (
        TilesManifest(recipe_key=recipe_key(tiles_recipe), recipe=tiles_recipe, items=tuple(tiles)),
        TokensManifest(recipe_key=recipe_key(tokens_recipe), recipe=tokens_recipe, items=tuple(tokens)),
    )


def write_tokens(
    store: Store, tiles: TilesManifest, *, name: str, width: int, grid: tuple[int, int], views: int, seed: int
) -> TokensManifest:
    """What a further teacher says of the tiles of `write_corpus`: another projection, of cells of another size."""
    teacher = {"name": name, "width": width, "grid": list(grid), "input_px": TILE_PX, "weights_digest": "1" * 64}
    recipe = {"tiles": tiles.recipe_key, "teacher": teacher, "patch": "int8", "views": views}
    project, items = np.random.default_rng(seed).normal(size=(3, width)) * 3, []
    for item in tiles.items:
        reader = TileReader(store.path(Ref("tiles", tiles.recipe_key, item.key)))
        image_NHWC = np.stack([reader.image(row, TILE_PX) for row in range(item.n)])
        ref = Ref("tokens", recipe_key(recipe), item.key)
        with store.write(ref, recipe) as folder:
            _write_tokens(folder, image_NHWC, project, views, "int8", grid)
        items.append(tokens_item(item.id, item.n, item.split, key=item.key, digest=store.digest(ref), kind="demo"))
    return TokensManifest(recipe_key=recipe_key(recipe), recipe=recipe, items=tuple(items))


def answers(image_HWC: np.ndarray, project: np.ndarray, grid: tuple[int, int] = GRID) -> tuple[np.ndarray, np.ndarray]:
    """(cls_D, patch_TD) of one tile."""
    cell = TILE_PX // grid[0]
    cells = image_HWC.reshape(grid[0], cell, grid[1], cell, 3).mean((1, 3)).reshape(-1, 3)
    patch_TD = (cells / 127.5 - 1) @ project
    return patch_TD.mean(0) + 2, patch_TD


def _images(rng: np.random.Generator, n: int) -> np.ndarray:
    coarse = rng.integers(0, 256, (n, 4, 4, 3), np.uint8)
    return coarse.repeat(TILE_PX // 4, 1).repeat(TILE_PX // 4, 2)


def _write_tiles(folder: Path, image_NHWC: np.ndarray) -> None:
    writer = TileWriter(folder)
    for image_HWC in image_NHWC:
        writer.append(encode_jpeg(image_HWC, 95))
    writer.close(Meta(kind="file", tile_px=TILE_PX))


def _write_tokens(
    folder: Path,
    image_NHWC: np.ndarray,
    project: np.ndarray,
    views: int,
    patch: str,
    grid: tuple[int, int] = GRID,
) -> None:
    width = project.shape[1]
    both = [[answers(apply_view(image, view), project, grid) for view in range(views)] for image in image_NHWC]
    cls_NVD = np.array([[cls for cls, _ in row] for row in both], np.float16)
    z_NVTD = torch.tensor(np.array([[tokens for _, tokens in row] for row in both]) / 3, dtype=torch.float32)
    block = block_of(width) if patch == "int8" else 1
    q_NVTD, scale_NVT = quantise(z_NVTD, fold(torch.zeros(width), torch.ones(width), block))
    attributes = {
        "grid": list(grid),
        "patch": patch,
        "mu": [0.0] * width,
        "sigma": [3.0] * width,
        "rotation_block": block,
    }
    arrays = {"cls": cls_NVD}
    if patch == "int8":
        arrays |= {"patch": q_NVTD.numpy(), "scale": scale_NVT.numpy()}
    elif patch == "fp16":
        arrays |= {"patch": z_NVTD.half().numpy()}
    for name, values in arrays.items():
        writer = ArrayWriter(folder / name, values.shape, balanced_rows(len(values), 8), values.dtype, attributes)
        for chunk in range(writer.n_chunks):
            rows = writer.rows(chunk)
            writer.write(chunk, values[rows.start : rows.stop])
