from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made.cache import Cache, make_cache
from made.corpus import TILE_PX

from pipeline.base.errors import TrainingError
from pipeline.corpus.corpus import open_corpus
from pipeline.corpus.loader import Batch, BatchShape, Loader, Share
from pipeline.corpus.order import Order
from pipeline.views import apply_view


def loader(cache: Cache, **changed: Any) -> Loader:
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)
    order = Order(corpus.rows, block_rows=4, buffer_rows=16, views=corpus.views, seed=3)
    side = changed.pop("input_px", TILE_PX)
    shape = BatchShape(changed.pop("batch_size", 8), side, dense=changed.pop("dense", (0,)))
    share = Share(changed.pop("rank", 0), changed.pop("world", 1))
    return Loader(corpus, order, shape, share=share, **({"workers": 2} | changed))


def same(a: Batch, b: Batch) -> bool:
    tensors = ("image_NHWC", "cls_ND", "patch_NTD", "scale_NT")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)


def test_batches_hold_what_the_readers_hold(cache: Cache) -> None:
    made = loader(cache)
    batch = next(made.batches(0, 1))
    rows = made.order.epoch(0).take(0, 8)
    assert set(rows.view.tolist()) == {0, 1}
    for i, (slide, row, view) in enumerate(zip(rows.slide, rows.row, rows.view, strict=True)):
        at, reader = np.array([row]), made.corpus.tokens[slide]
        image = apply_view(made.corpus.tiles[slide].image(int(row)), int(view))
        assert np.array_equal(batch.image_NHWC[i].numpy(), image)
        assert np.array_equal(batch.cls_ND[i].numpy(), reader.cls(at)[0, view])
        assert batch.patch_NTD is not None and batch.scale_NT is not None
        assert np.array_equal(batch.patch_NTD[i].numpy(), reader.patch(at, int(view))[0])
        assert np.array_equal(batch.scale_NT[i].numpy(), reader.scale(at, int(view))[0])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_restart_at_a_step_yields_what_would_have_come(cache: Cache, workers: int) -> None:
    made = loader(cache)
    through = list(made.batches(0, 12))
    resumed = list(loader(cache, workers=workers).batches(7, 12))
    assert made.steps_per_epoch == 5 and len(through) == 12
    assert all(same(a, b) for a, b in zip(through[7:], resumed, strict=True))


def test_ranks_share_the_batch_of_one_process(cache: Cache) -> None:
    one = next(loader(cache).batches(2, 3))
    two = [next(loader(cache, rank=rank, world=2).batches(2, 3)) for rank in (0, 1)]
    assert torch.equal(one.image_NHWC, torch.cat([part.image_NHWC for part in two]))


def test_leaving_early_stops_the_threads(cache: Cache) -> None:
    batches = loader(cache, workers=2).batches(0, 1000)
    next(batches)
    assert any(thread.name.startswith("loader") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("loader") for thread in threading.enumerate())


def test_images_come_at_the_students_side(cache: Cache) -> None:
    assert next(loader(cache, input_px=64).batches(0, 1)).image_NHWC.shape == (8, 64, 64, 3)


def test_without_the_dense_objective_no_patch_is_read(cache: Cache) -> None:
    batch = next(loader(cache, dense=()).batches(0, 1))
    assert batch.patch_NTD is None and batch.scale_NT is None


def test_fp16_tokens_need_no_scale(tmp_path: Path) -> None:
    batch = next(loader(make_cache(tmp_path, patch="fp16")).batches(0, 1))
    assert batch.patch_NTD is not None and batch.patch_NTD.dtype == torch.float16
    assert batch.scale_NT is None


def test_few_tiles_shrink_the_batch(cache: Cache) -> None:
    made = loader(cache, batch_size=513, world=3)
    assert (made.batch_size, made.own_size, made.steps_per_epoch) == (39, 13, 1)


def test_a_batch_that_the_processes_cannot_share_is_refused(cache: Cache) -> None:
    with pytest.raises(TrainingError, match=r"(?s)a batch of 9 does not divide among 2.*student\.batch_size: 10"):
        loader(cache, batch_size=9, world=2)


def test_a_batch_of_one_tile_is_refused(cache: Cache) -> None:
    with pytest.raises(TrainingError, match="leave 1 a process"):
        loader(cache, batch_size=40, world=40)
