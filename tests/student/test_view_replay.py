"""Cached targets against the live teacher on what the student's loader replays, for every kind of view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import zarr
from made.tiles import SIDE_PX, tiles_json
from PIL import Image
from safetensors.torch import save_file

from kernels.dequantise import dequantise
from pipeline.base.store import Ref, Store
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.corpus.loader import Batch, BatchShape, Loader
from pipeline.corpus.order import Order, Places
from pipeline.params.tokens import TokensParams
from pipeline.teachers.loading import load_teacher
from pipeline.tokens.stage import make_tokens
from pipeline.views import apply_view, batch_fields, source_px
from pipeline.views.batch import apply_on_device

SLIDES = {"a": 9, "b": 4}
KINDS: dict[str, dict[str, Any]] = {
    "dihedral": {"views": 8},
    "crop": {"augment": {"views": 3, "stain_sigma": 0.0, "crop_side": [0.4, 0.9]}},
    "stain": {"augment": {"views": 3, "stain_sigma": 0.2, "crop_side": [1.0, 1.0]}},
    "all": {"views": 2, "augment": {"views": 3, "stain_sigma": 0.1}},
}


@pytest.fixture(scope="module")
def cnn_weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("cnn") / "cnn.safetensors"
    save_file(timm.create_model("test_efficientnet", num_classes=0).state_dict(), path)
    return path


@pytest.fixture(params=["vit", "cnn"])
def teacher_params(request, tiny_params, cnn_weights) -> TokensParams:
    if request.param == "vit":
        return tiny_params
    cnn = {"teacher": "test_efficientnet", "weights": str(cnn_weights), "model_kwargs": {}, "input_px": 2 * SIDE_PX}
    return TokensParams.model_validate(tiny_params.model_dump() | cnn)


def replayed(params: TokensParams, store: Store, px: int) -> tuple[Corpus, Places, Batch]:
    """All tiles of an epoch as the loader gives them, in one batch."""
    tiles = tiles_json(store, SLIDES)
    corpus = open_corpus(tiles, make_tokens(tiles, params, store, 512), store)
    order = Order(corpus.rows, block_rows=4, buffer_rows=16, views=corpus.views, seed=1)
    loader = Loader(corpus, order, BatchShape(corpus.total, px, dense=(0,)))
    return corpus, order.epoch(0).take(0, corpus.total), next(loader.batches(0, 1))


def decoded(corpus: Corpus, rows: Places, px: int) -> torch.Tensor:
    """The tiles as they are, at a side."""
    images = [corpus.tiles[slide].image(int(row), px) for slide, row in zip(rows.slide, rows.row, strict=True)]
    return torch.from_numpy(np.stack(images))


def seen_by_teacher(corpus: Corpus, rows: Places, params: TokensParams, px: int) -> torch.Tensor:
    """The views as the tokens stage makes them on the teacher's device."""
    places = [(corpus.items[slide].key, int(row)) for slide, row in zip(rows.slide, rows.row, strict=True)]
    fields_NP = batch_fields(params, places, len(places))[np.arange(len(places)), rows.view]
    return apply_on_device(decoded(corpus, rows, source_px(params, SIDE_PX, px)), fields_NP, px)


def error(cached: torch.Tensor, live: torch.Tensor) -> float:
    return float((cached.float() - live).norm() / live.norm())


@pytest.mark.parametrize("kind", KINDS)
def test_the_cached_target_is_the_live_teachers_on_the_replayed_input(kind, teacher_params, store):
    params = TokensParams.model_validate(teacher_params.model_dump() | KINDS[kind])
    teacher = load_teacher(params, store, 512)
    corpus, rows, batch = replayed(params, store, teacher.input_px)
    assert corpus.views == params.n_views and len(set(rows.view.tolist())) > 1
    assert batch.patch_NTD is not None and batch.scale_NT is not None
    assert torch.equal(batch.image_NHWC, seen_by_teacher(corpus, rows, params, teacher.input_px))
    as_it_is = decoded(corpus, rows, teacher.input_px)
    with torch.inference_mode():
        cls_ND, patch_NTD = teacher(teacher.normalise(batch.image_NHWC))
        plain_ND, plain_NTD = teacher(teacher.normalise(as_it_is))
    mu_D, sigma_D = (torch.from_numpy(v) for v in (corpus.tokens[0].mu, corpus.tokens[0].sigma))
    z_NTD = dequantise(batch.patch_NTD, batch.scale_NT, corpus.rotation_block)
    live_NTD, unmoved_NTD = ((tokens - mu_D) / sigma_D for tokens in (patch_NTD, plain_NTD))
    assert error(batch.cls_ND, cls_ND) < 1e-3 and error(z_NTD, live_NTD) < 0.012
    # On the tile as it is the teacher says something else, so the comparison above could have failed.
    assert error(z_NTD, unmoved_NTD) > 0.1 and error(batch.cls_ND, plain_ND) > 2e-3


def test_a_dense_target_covers_the_crop_that_the_stored_numbers_name(tiny_params, store):
    params = TokensParams.model_validate(tiny_params.model_dump() | KINDS["crop"])
    corpus, _, _ = replayed(params, store, 32)
    folder = corpus.tokens[0].folder
    stored = zarr.open_array(folder / "views", mode="r")
    assert stored.shape == (9, 4, 10) and stored.dtype == np.float32 and stored.attrs["source_px"] == SIDE_PX
    teacher = load_teacher(params, store, 512)
    for row in range(9):
        named = dict(zip(stored.attrs["fields"], stored[row, 2].tolist(), strict=True))
        left, top, side = (named[name] * SIDE_PX for name in ("x0", "y0", "side"))
        box = (left, top, min(left + side, SIDE_PX), min(top + side, SIDE_PX))
        cut = Image.fromarray(corpus.tiles[0].image(row)).resize((32, 32), Image.Resampling.BICUBIC, box=box)
        image_HWC = apply_view(np.array(cut), int(named["element"]))
        with torch.inference_mode():
            _, patch_NTD = teacher(teacher.normalise(torch.from_numpy(image_HWC)[None]))
        live_TD = (patch_NTD[0].numpy() - corpus.tokens[0].mu) / corpus.tokens[0].sigma
        cached_TD = corpus.tokens[0].dequantised(np.array([row]), 2)[0]
        assert np.linalg.norm(cached_TD - live_TD) / np.linalg.norm(live_TD) < 0.012


def test_dihedral_views_alone_store_no_fields_and_leave_the_recipe_as_it_was(tiny_params, store):
    tiles = tiles_json(store, SLIDES)
    manifest = make_tokens(tiles, tiny_params.model_copy(update={"views": 2}), store, 512)
    folder = store.path(Ref("tokens", manifest.recipe_key, manifest.items[0].key))
    assert not (folder / "views").exists() and "augment" not in manifest.recipe


def test_what_is_drawn_is_part_of_the_recipe(tiny_params, store):
    tiles, keys = tiles_json(store, {"a": 1}), set()
    for drawn in ({}, {"views": 1}, {"views": 1, "seed": 1}, {"views": 1, "stain_sigma": 0.1}, {"views": 2}):
        params = TokensParams.model_validate(tiny_params.model_dump() | {"patch": "none", "augment": drawn})
        keys.add(make_tokens(tiles, params, store, 512).recipe_key)
    assert len(keys) == 5
