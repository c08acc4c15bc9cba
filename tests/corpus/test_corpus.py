from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from made.cache import Cache, make_cache
from made.corpus import GRID, WIDTH
from numpy.typing import NDArray

from pipeline.base.errors import MissingItem, TrainingError
from pipeline.base.store import Ref
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.corpus.order import kept_rows
from pipeline.corpus.statistics import cls_statistics
from pipeline.corpus.targets import draw_cls


class InMemory:
    """Answers that no teacher of the tests gives, read as a TokenReader reads."""

    sums = None

    def __init__(self, cls_NVD: NDArray[np.float16]) -> None:
        self.cls_NVD = cls_NVD

    def cls(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        return self.cls_NVD[rows]


@pytest.fixture(scope="module")
def corpus(cache: Cache) -> Corpus:
    return open_corpus(cache.tiles, cache.tokens, cache.store)


def test_only_train_slides_sorted_by_id(cache: Cache) -> None:
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)
    assert [item.id for item in corpus.items] == ["alpha", "beta", "delta"]
    assert (corpus.rows, corpus.total) == ((13, 20, 7), 40)
    assert (corpus.width, corpus.views, corpus.grid, corpus.dense) == (WIDTH, 2, GRID, True)


def test_statistics_are_numpys_over_all_views(cache: Cache) -> None:
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)
    all_ND = np.concatenate([reader.cls(np.arange(len(reader))).reshape(-1, WIDTH) for reader in corpus.tokens])
    mean_D, std_D = cls_statistics(corpus, chunk_rows=6)
    np.testing.assert_allclose(mean_D, all_ND.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(std_D, all_ND.std(0, dtype=np.float64), rtol=1e-5)


def test_what_a_fraction_leaves_out_is_in_no_statistic(cache: Cache) -> None:
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store, fraction=0.3)
    kept = [reader.cls(kept_rows(len(reader), 0.3)).reshape(-1, WIDTH) for reader in corpus.tokens]
    cls_ND = np.concatenate(kept)
    assert corpus.kept_total == len(cls_ND) / 2 == 4 + 6 + 3
    np.testing.assert_allclose(cls_statistics(corpus)[0], cls_ND.mean(0, dtype=np.float64), rtol=1e-6)
    bank_KD = draw_cls(corpus, 10_000, seed=0)
    assert np.array_equal(bank_KD, cls_ND)


@pytest.mark.parametrize("constant", [0.0, 0.7])
def test_constant_channels_do_not_set_the_floor_of_the_others(corpus: Corpus, constant: float) -> None:
    varying = np.random.default_rng(0).normal(0.1, 0.02, (corpus.total, 1, 11))
    cls_NVD = np.full((corpus.total, 1, WIDTH), constant, np.float16)
    cls_NVD[..., :11] = varying
    tokens, items = (InMemory(cls_NVD),), (corpus.items[0].model_copy(update={"n": corpus.total}),)
    _, std_D = cls_statistics(replace(corpus, items=items, tokens=cast(Any, tokens), views=1, store=None))
    np.testing.assert_allclose(std_D[:11], cls_NVD[:, 0, :11].std(0, dtype=np.float64), rtol=1e-4)
    np.testing.assert_allclose(std_D[11:], 1e-3 * np.median(std_D[:11]), rtol=1e-6)


def test_channels_that_are_all_constant_are_left_as_they_are(corpus: Corpus) -> None:
    tokens = (InMemory(np.full((corpus.total, 1, WIDTH), 0.3, np.float16)),)
    items = (corpus.items[0].model_copy(update={"n": corpus.total}),)
    _, std_D = cls_statistics(replace(corpus, items=items, tokens=cast(Any, tokens), views=1, store=None))
    assert (std_D == 1).all()


def test_answers_that_are_not_finite_name_their_slide(corpus: Corpus) -> None:
    cls_NVD = np.zeros((corpus.rows[1], 2, WIDTH), np.float16)
    cls_NVD[-1, 1, 3] = np.nan
    spoilt = replace(corpus, tokens=(corpus.tokens[0], cast(Any, InMemory(cls_NVD)), corpus.tokens[2]), store=None)
    with pytest.raises(TrainingError, match="beta: the cached CLS tokens hold NaN"):
        cls_statistics(spoilt)


def test_no_train_slide_is_refused(cache: Cache) -> None:
    held_out = [item.model_copy(update={"split": "test"}) for item in cache.tokens.items]
    tokens = cache.tokens.model_copy(update={"items": tuple(held_out)})
    with pytest.raises(TrainingError, match="none of 4 slides"):
        open_corpus(cache.tiles, tokens, cache.store)


def test_tiles_and_tokens_that_differ_are_refused(cache: Cache) -> None:
    changed: list[Any] = [item.model_copy(update={"n": item.n + (item.id == "beta")}) for item in cache.tiles.items]
    with pytest.raises(TrainingError, match="beta: 21 tiles, but tokens of 20"):
        open_corpus(cache.tiles.model_copy(update={"items": tuple(changed)}), cache.tokens, cache.store)


def test_absent_tokens_name_the_command(tmp_path: Path) -> None:
    cache = make_cache(tmp_path)
    cache.store.delete(Ref("tokens", cache.tokens.recipe_key, "key-delta"))
    with pytest.raises(MissingItem, match="dvc repro -f -s tokens"):
        open_corpus(cache.tiles, cache.tokens, cache.store)
