from __future__ import annotations

from typing import Any

import pytest
import torch
from made.cache import Cache
from torch import Tensor

from kernels.dequantise import dequantise
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.corpus.loader import Batch, BatchShape, Loader, Targets
from pipeline.corpus.order import Order
from pipeline.corpus.targets import cls_standardiser
from pipeline.params.student import ObjectiveParams
from pipeline.student.objectives import OBJECTIVES, cls_loss, contrastive_loss, patch_loss, relation_loss
from pipeline.student.terms import Terms

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(cache: Cache) -> Corpus:
    return open_corpus(cache.tiles, cache.tokens, cache.store)


@pytest.fixture(scope="module")
def batch(corpus: Corpus) -> Batch:
    order = Order(corpus.rows, block_rows=4, buffer_rows=16, views=corpus.views, seed=0)
    return next(Loader(corpus, order, BatchShape(8, 32, dense=(0,)), workers=0).batches(0, 1))


def terms(corpus: Corpus, **params: Any) -> Terms:
    return Terms(ObjectiveParams(**params), corpus, cls_standardiser(corpus), CPU)


def answers(corpus: Corpus, n: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, corpus.width, generator=generator), torch.randn(n, 16, corpus.width, generator=generator)


def test_every_objective_has_a_weight_in_params() -> None:
    assert all(isinstance(getattr(ObjectiveParams(), name), float) for name in OBJECTIVES)


def test_cls_and_patch_are_against_what_is_cached(corpus: Corpus, batch: Batch) -> None:
    embedding_ND, map_NTD = answers(corpus)
    found = terms(corpus)(batch.each[0], embedding_ND, map_NTD)
    assert batch.patch_NTD is not None and batch.scale_NT is not None
    assert list(found) == ["cls", "patch"]
    assert torch.equal(found["cls"], cls_loss(embedding_ND, cls_standardiser(corpus).forward(batch.cls_ND)))
    token_NTD = dequantise(batch.patch_NTD, batch.scale_NT, corpus.rotation_block)
    assert torch.equal(found["patch"], patch_loss(map_NTD, token_NTD))


def test_total_is_the_weighted_sum(corpus: Corpus, batch: Batch) -> None:
    made = terms(corpus, cls=0.5, patch=2.0, relation=3.0)
    found = made(batch.each[0], *answers(corpus))
    assert list(found) == list(OBJECTIVES)
    expected = 0.5 * found["cls"] + 2 * found["patch"] + 3 * found["relation"]
    assert made.total(found).item() == pytest.approx(expected.item())


def test_the_teachers_own_answers_cost_nothing(corpus: Corpus, batch: Batch) -> None:
    made = terms(corpus, relation=1.0)
    assert batch.patch_NTD is not None and batch.scale_NT is not None
    perfect = made.cls.forward(batch.cls_ND), dequantise(batch.patch_NTD, batch.scale_NT, corpus.rotation_block)
    assert all(abs(value.item()) < 1e-5 for value in made(batch.each[0], *perfect).values())


def test_the_bank_is_the_same_after_a_restart_and_of_the_asked_size(corpus: Corpus) -> None:
    banks = [terms(corpus, relation=1.0, relation_queue=size).bank_KD for size in (16, 16, 10_000)]
    assert banks[0] is not None and banks[1] is not None and banks[2] is not None
    assert torch.equal(banks[0], banks[1])
    assert (len(banks[0]), len(banks[2])) == (16, corpus.total * corpus.views)
    torch.testing.assert_close(banks[0].norm(dim=1), torch.ones(16))


def test_mse_is_a_key(corpus: Corpus, batch: Batch) -> None:
    embedding_ND, _ = answers(corpus)
    found = terms(corpus, cls_kind="mse", patch=0)(batch.each[0], embedding_ND, None)
    assert list(found) == ["cls"]
    target_ND = cls_standardiser(corpus).forward(batch.cls_ND)
    assert found["cls"].item() == pytest.approx((embedding_ND - target_ND).square().mean().item())


@pytest.mark.parametrize("kind", ["kl", "contrastive"])
def test_kinds_that_need_a_bank_have_one_and_add_no_objective(kind: str, corpus: Corpus, batch: Batch) -> None:
    embedding_ND, _ = answers(corpus)
    made = terms(corpus, cls_kind=kind, patch=0, relation_queue=16)
    found = made(batch.each[0], embedding_ND, None)
    assert list(found) == ["cls"] and made.bank_KD is not None
    loss = {"kl": relation_loss, "contrastive": contrastive_loss}[kind]
    expected = loss(embedding_ND, made.cls.forward(batch.cls_ND), made.bank_KD, 0.1)
    assert torch.equal(found["cls"], expected) and expected > 0.01


def test_an_artefact_is_left_out_where_params_say_so(corpus: Corpus, batch: Batch) -> None:
    embedding_ND, map_NTD = answers(corpus)
    assert batch.scale_NT is not None
    scale_NT = batch.scale_NT.clone()
    scale_NT[:, 5] = 100.0
    spoilt = Targets(batch.cls_ND, batch.patch_NTD, scale_NT)
    moved_NTD = map_NTD.clone()
    moved_NTD[:, 5] += 1
    for token_weight, same in (("norm", True), ("none", False)):
        made = terms(corpus, token_weight=token_weight)
        before, after = (made(spoilt, embedding_ND, m)["patch"] for m in (map_NTD, moved_NTD))
        assert torch.equal(before, after) == same


@pytest.mark.parametrize(
    "params",
    [{}, {"relation": 1.0, "token_weight": "norm"}, {"cls_kind": "contrastive"}],
    ids=["default", "all", "contrastive"],
)
def test_a_batch_is_the_mean_of_its_halves(corpus: Corpus, batch: Batch, params: dict[str, Any]) -> None:
    made, (embedding_ND, map_NTD) = terms(corpus, **params), answers(corpus)
    assert batch.patch_NTD is not None and batch.scale_NT is not None
    whole = made(batch.each[0], embedding_ND, map_NTD)
    halves = []
    for at in (slice(0, 4), slice(4, 8)):
        share = Targets(batch.cls_ND[at], batch.patch_NTD[at], batch.scale_NT[at])
        halves.append(made(share, embedding_ND[at], map_NTD[at]))
    for name, value in whole.items():
        assert value.item() == pytest.approx((halves[0][name] + halves[1][name]).item() / 2, rel=1e-5)
