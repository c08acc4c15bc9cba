from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from made.cache import Cache
from torch import nn

from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.corpus.statistics import cls_statistics
from pipeline.corpus.targets import Standardiser, cls_standardiser, draw_cls, patch_standardiser

KINDS = ["channel", "phi-s"]


@pytest.fixture(scope="module")
def corpus(cache: Cache) -> Corpus:
    return open_corpus(cache.tiles, cache.tokens, cache.store)


def cached(corpus: Corpus) -> torch.Tensor:
    every = [
        reader.cls(np.arange(item.n)).reshape(-1, corpus.width)
        for item, reader in zip(corpus.items, corpus.tokens, strict=True)
    ]
    return torch.from_numpy(np.concatenate(every))


@pytest.mark.parametrize("kind", KINDS)
def test_channels_have_mean_zero_and_variance_one(corpus: Corpus, kind: str) -> None:
    z_ND = cls_standardiser(corpus, kind).forward(cached(corpus))
    assert z_ND.dtype == torch.float32
    torch.testing.assert_close(z_ND.mean(0), torch.zeros(corpus.width), atol=1e-4, rtol=0)
    torch.testing.assert_close(z_ND.var(0, correction=0), torch.ones(corpus.width), atol=1e-3, rtol=0)


def test_phi_s_keeps_the_teachers_geometry(corpus: Corpus) -> None:
    standardiser, x_ND = cls_standardiser(corpus, "phi-s"), cached(corpus).float()
    z_ND = standardiser.forward(x_ND)
    before_P, after_P = (torch.nn.functional.pdist(y_ND.double()) for y_ND in (x_ND, z_ND))
    torch.testing.assert_close(after_P * standardiser.scale_D[0], before_P, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_inverse_undoes_forward(corpus: Corpus, kind: str) -> None:
    x_ND, standardiser = cached(corpus), cls_standardiser(corpus, kind)
    weight_DD, bias_D = standardiser.inverse()
    back_ND = standardiser.forward(x_ND).double() @ weight_DD.T + bias_D
    torch.testing.assert_close(back_ND, x_ND.double(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folded_layer_answers_in_the_teachers_space(corpus: Corpus, kind: str) -> None:
    standardiser, layer = cls_standardiser(corpus, kind), nn.Linear(10, corpus.width)
    inner_NC = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z_ND = layer(inner_NC)
        standardiser.fold_into(layer)
        torch.testing.assert_close(standardiser.forward(layer(inner_NC)), z_ND, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_hold_all_of_it(corpus: Corpus, kind: str) -> None:
    standardiser, x_ND = cls_standardiser(corpus, kind), cached(corpus)
    again = Standardiser.from_tensors("cls", standardiser.tensors("cls"))
    assert torch.equal(again.forward(x_ND), standardiser.forward(x_ND))


def test_channel_is_the_corpus_own_statistics(corpus: Corpus) -> None:
    standardiser, (mean_D, std_D) = cls_standardiser(corpus), cls_statistics(corpus)
    assert torch.equal(standardiser.mean_D, torch.from_numpy(mean_D))
    assert torch.equal(standardiser.scale_D, torch.from_numpy(std_D))


def test_patch_statistics_are_the_caches(corpus: Corpus) -> None:
    standardiser = patch_standardiser(corpus)
    assert (standardiser.mean_D == 0).all() and (standardiser.scale_D == 3).all()


def test_a_draw_is_of_distinct_train_tiles_and_views_and_repeats(corpus: Corpus) -> None:
    drawn_KD = draw_cls(corpus, 30, seed=1)
    assert drawn_KD.shape == (30, corpus.width)
    # Views of one tile may have equal answers here, so a row may come as often as it is cached.
    assert Counter(row.tobytes() for row in drawn_KD) <= Counter(row.tobytes() for row in cached(corpus).numpy())
    assert np.array_equal(drawn_KD, draw_cls(corpus, 30, seed=1))
    assert not np.array_equal(drawn_KD, draw_cls(corpus, 30, seed=2))


def test_a_draw_beyond_the_corpus_is_all_of_it(corpus: Corpus) -> None:
    drawn_KD = draw_cls(corpus, 10_000, seed=0)
    assert np.array_equal(drawn_KD, cached(corpus).numpy())
