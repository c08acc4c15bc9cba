"""Mixing: image and targets by one weight, drawn by seed and step, the same whoever holds the tile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made.cache import Cache
from made.corpus import GRID, tiny

from kernels.dequantise import dequantise
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.corpus.loader import Batch, BatchShape, Loader, Share
from pipeline.corpus.order import Order
from pipeline.corpus.targets import cls_standardiser
from pipeline.inputs import Draws, Mixing
from pipeline.inputs.mixing import boxes, partners
from pipeline.params.student import MixParams, ObjectiveParams
from pipeline.student.recipe import train_recipe
from pipeline.student.terms import Terms

SIZE = 8
ALONE = Share()


@pytest.fixture(scope="module")
def corpus(cache: Cache) -> Corpus:
    return open_corpus(cache.tiles, cache.tokens, cache.store)


def loader(corpus: Corpus, share: Share = ALONE, size: int = SIZE) -> Loader:
    order = Order(corpus.rows, block_rows=4, buffer_rows=16, views=corpus.views, seed=0)
    return Loader(corpus, order, BatchShape(size, 32, dense=(0,)), share=share, workers=0)


def first(made: Loader) -> Batch:
    return next(made.batches(0, 1))


def mixing(corpus: Corpus, of: Loader, seed: int = 0, **params: Any) -> Mixing:
    return Mixing(MixParams(**params), Draws.of(of, seed), (corpus.grid,), (corpus.rotation_block,))


def tokens(corpus: Corpus, batch: Batch) -> torch.Tensor:
    assert batch.patch_NTD is not None
    if batch.scale_NT is None:
        return batch.patch_NTD
    return dequantise(batch.patch_NTD, batch.scale_NT, corpus.rotation_block)


def test_mixup_blends_image_cls_and_tokens_by_one_weight(corpus: Corpus) -> None:
    made = loader(corpus)
    batch = first(made)
    mixed = mixing(corpus, made, kind="mixup")(3, batch)
    weights = []
    for i in range(SIZE):
        a, b = batch.image_NHWC[i].float(), batch.image_NHWC[i ^ 1].float()
        weight = float(((mixed.image_NHWC[i] - b) * (a - b)).sum() / (a - b).square().sum())
        for own, partner, found in (
            (a, b, mixed.image_NHWC[i]),
            (batch.cls_ND[i].float(), batch.cls_ND[i ^ 1].float(), mixed.cls_ND[i]),
            (tokens(corpus, batch)[i], tokens(corpus, batch)[i ^ 1], tokens(corpus, mixed)[i]),
        ):
            torch.testing.assert_close(found, weight * own + (1 - weight) * partner, atol=2e-3, rtol=1e-4)
        weights.append(weight)
    assert 0 <= min(weights) < 0.3 and 0.7 < max(weights) <= 1 and len(set(weights)) == SIZE


def test_cutmix_takes_each_cell_and_its_token_from_one_tile(corpus: Corpus) -> None:
    made = loader(corpus)
    batch, cut = first(made), mixing(corpus, made, kind="cutmix")
    mixed = cut(0, batch)
    assert mixed.image_NHWC.dtype == torch.uint8 and mixed.patch_NTD is not None and mixed.patch_NTD.dtype == torch.int8
    pasted = 0
    for i in range(SIZE):
        a, b, found = (
            image.view(GRID[0], 8, GRID[1], 8, 3).transpose(1, 2).reshape(16, -1)
            for image in (batch.image_NHWC[i], batch.image_NHWC[i ^ 1], mixed.image_NHWC[i])
        )
        own, other = (found == a).all(1), (found == b).all(1)
        assert (own | other).all()
        expected = torch.where(other[:, None], tokens(corpus, batch)[i ^ 1], tokens(corpus, batch)[i])
        assert torch.equal(tokens(corpus, mixed)[i], expected)
        left = float(1 - other.float().mean())
        cls = left * batch.cls_ND[i].float() + (1 - left) * batch.cls_ND[i ^ 1].float()
        torch.testing.assert_close(mixed.cls_ND[i], cls, atol=2e-3, rtol=1e-4)
        pasted += int(other.sum())
    assert 0 < pasted < 16 * SIZE


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_what_is_asked_for_can_be_answered(kind: str, corpus: Corpus) -> None:
    """The mixed targets themselves, given as answers, cost nothing."""
    made = loader(corpus)
    mixed = mixing(corpus, made, kind=kind)(1, first(made))
    terms = Terms(ObjectiveParams(), corpus, cls_standardiser(corpus), torch.device("cpu"))
    found = terms(mixed.each[0], terms.cls.forward(mixed.cls_ND), tokens(corpus, mixed))
    assert all(abs(value.item()) < 1e-5 for value in found.values())


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_share_of_none_mixes_nothing(kind: str, corpus: Corpus) -> None:
    made = loader(corpus)
    batch = first(made)
    mixed = mixing(corpus, made, kind=kind, share=0)(0, batch)
    assert torch.equal(mixed.image_NHWC.float(), batch.image_NHWC.float())
    assert torch.equal(mixed.cls_ND.float(), batch.cls_ND.float())
    assert torch.equal(tokens(corpus, mixed), tokens(corpus, batch))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_two_processes_mix_as_one_does(kind: str, corpus: Corpus) -> None:
    whole = loader(corpus)
    one = mixing(corpus, whole, kind=kind)(5, first(whole))
    halves = []
    for rank in (0, 1):
        part = loader(corpus, Share(rank, 2))
        halves.append(mixing(corpus, part, kind=kind)(5, first(part)))
    for name in ("image_NHWC", "cls_ND", "patch_NTD"):
        assert torch.equal(torch.cat([getattr(half, name) for half in halves]), getattr(one, name)), name


def test_seed_and_step_decide_what_is_drawn(corpus: Corpus) -> None:
    made = loader(corpus)
    batch = first(made)
    images = [mixing(corpus, made, seed, kind="mixup")(step, batch).image_NHWC for seed, step in
              ((0, 0), (0, 0), (1, 0), (0, 1))]  # fmt: skip
    assert torch.equal(images[0], images[1])
    assert not any(torch.equal(images[0], other) for other in images[2:])


def test_the_last_of_an_odd_number_stays_as_it_is(corpus: Corpus) -> None:
    assert partners(5, torch.device("cpu")).tolist() == [1, 0, 3, 2, 4]
    made = loader(corpus, size=5)
    batch = first(made)
    mixed = mixing(corpus, made, kind="mixup")(0, batch)
    torch.testing.assert_close(mixed.image_NHWC[4], batch.image_NHWC[4].float())


def test_tokens_kept_as_floats_are_mixed_too(corpus: Corpus) -> None:
    made = loader(corpus)
    batch = first(made)
    floats = replace(batch, patch_NTD=tokens(corpus, batch), scale_NT=None)
    for kind in ("mixup", "cutmix"):
        mix = mixing(corpus, made, kind=kind)
        torch.testing.assert_close(tokens(corpus, mix(0, floats)), tokens(corpus, mix(0, batch)))


@given(
    weight=st.floats(0, 1),
    down=st.floats(0, 1, exclude_max=True),
    across=st.floats(0, 1, exclude_max=True),
    grid=st.tuples(st.integers(1, 16), st.integers(1, 16)),
)
def test_a_box_is_a_whole_rectangle_of_the_share_asked_for(
    weight: float, down: float, across: float, grid: tuple[int, int]
) -> None:
    (cells,) = boxes(np.array([weight]), np.array([[down, across]]), grid)
    inside = cells.reshape(grid)
    sides = [int(inside.any(axis).sum()) for axis in (1, 0)]
    assert inside.sum() == sides[0] * sides[1]
    assert all(abs(side - cells * (1 - weight) ** 0.5) <= 0.5 + 1e-9 for side, cells in zip(sides, grid, strict=True)
               if inside.any())  # fmt: skip


def test_off_is_no_part_of_the_recipe_and_a_parted_pair_is(corpus: Corpus, cache: Cache) -> None:
    def recipe(world: int = 1, **changed: Any) -> dict[str, Any]:
        return train_recipe(cache.tokens, corpus, tiny(**changed), 32, world)

    mixed = {"mix": {"kind": "mixup"}, "freeze_batch_norm": True}
    assert "mix" not in recipe()["student"] and recipe(mix={"alpha": 0.2}) == recipe()
    assert recipe(**mixed) != recipe(freeze_batch_norm=True)
    assert recipe(world=2, **mixed) == recipe(**mixed)
    assert recipe(world=2, batch_size=10, **mixed)["world"] == 2
    assert "world" not in recipe(world=2, batch_size=10, freeze_batch_norm=True)
