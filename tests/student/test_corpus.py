from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from student.conftest import Cache, make_cache
from student.synthetic import GRID, WIDTH

from pipeline.errors import MissingItem, TrainingError
from pipeline.store import Ref
from pipeline.student.corpus import cls_statistics, open_corpus


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


def test_no_train_slide_is_refused(cache: Cache) -> None:
    held_out = [item.model_copy(update={"info": {**item.info, "split": "test"}}) for item in cache.tokens.items]
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
    with pytest.raises(MissingItem, match="dvc repro tokens"):
        open_corpus(cache.tiles, cache.tokens, cache.store)
