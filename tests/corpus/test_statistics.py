"""Statistics of all targets come from the sums that slides have, or are computed once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from made.cache import Cache, make_cache

from pipeline.base.errors import CorruptItem
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.corpus.statistics import KIND, cls_statistics, covariance
from pipeline.corpus.targets import cls_standardiser
from pipeline.tokens.item import sums as of_slide
from pipeline.tokens.item.sums import SUMS_FILE, sums_of, write_sums
from pipeline.upkeep.named import Named
from pipeline.upkeep.prune import prunable


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """One that may be damaged."""
    return make_cache(tmp_path, views=2)


def opened(cache: Cache, fraction: float = 1.0) -> Corpus:
    return open_corpus(cache.tiles, cache.tokens, cache.store, fraction)


def forget_cls(corpus: Corpus) -> None:
    """No answer can be read any more, but the arrays say what they were."""
    for reader in corpus.tokens:
        for path in (reader.folder / "cls").iterdir():
            if path.name != "zarr.json":
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_of_slides_with_sums_no_answer_is_read_and_the_bits_are_the_same(cache: Cache) -> None:
    expected = cls_statistics(opened(cache))
    shutil.rmtree(cache.store.root / KIND)
    for reader in opened(cache).tokens:
        write_sums(reader.folder)
    forget_cls(opened(cache))
    found = cls_statistics(opened(cache))
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert not (cache.store.root / KIND).exists()


def test_sums_of_several_runs_add_up_as_they_would_without(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pipeline.tokens.item.sums", "pipeline.corpus.statistics"):
        monkeypatch.setattr(f"{module}.SUM_ROWS", 6)
    expected = cls_statistics(opened(cache), chunk_rows=6)
    for reader in opened(cache).tokens:
        write_sums(reader.folder)
    forget_cls(opened(cache))
    assert [len(sums) for reader in opened(cache).tokens if (sums := reader.sums) is not None] == [3, 4, 2]
    found = cls_statistics(opened(cache), chunk_rows=6)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert of_slide.SUM_ROWS == 6


@pytest.mark.parametrize("fraction", [1.0, 0.3])
def test_of_slides_without_them_they_are_computed_once(cache: Cache, fraction: float) -> None:
    first = cls_standardiser(opened(cache, fraction), "phi-s")
    forget_cls(opened(cache, fraction))
    again = cls_standardiser(opened(cache, fraction), "phi-s")
    assert first.mean_D.equal(again.mean_D) and first.scale_D.equal(again.scale_D)
    assert first.rotation_DD is not None and again.rotation_DD is not None
    assert first.rotation_DD.equal(again.rotation_DD)
    with pytest.raises(CorruptItem):
        cls_statistics(opened(cache, 0.5))


def test_the_covariance_is_numpys(cache: Cache) -> None:
    corpus = opened(cache)
    all_ND = np.concatenate([reader.cls(np.arange(len(reader))).reshape(-1, corpus.width) for reader in corpus.tokens])
    mean_D = cls_statistics(corpus)[0]
    expected = np.cov(all_ND.astype(np.float64), rowvar=False, bias=True)
    np.testing.assert_allclose(covariance(corpus, mean_D), expected, rtol=1e-4, atol=1e-7)


def test_sums_of_another_slide_are_not_taken(cache: Cache) -> None:
    corpus = opened(cache)
    np.save(corpus.tokens[0].folder / SUMS_FILE, np.zeros((7, 2, corpus.width)))
    with pytest.raises(CorruptItem, match=r"its sums are float64\(7, 2"):
        cls_statistics(opened(cache))


@pytest.mark.parametrize("lost", [0, 1])
def test_prune_leaves_statistics_with_the_tokens_that_they_are_of(cache: Cache, lost: int) -> None:
    cls_statistics(opened(cache, fraction=0.5))
    named = Named()
    for manifest in (cache.tiles, cache.tokens.model_copy(update={"items": cache.tokens.items[lost:]})):
        named.add(manifest, ["main"])
    found = [ref.kind for ref in prunable(cache.store, named, days=0).items]
    assert found.count(KIND) == lost


@pytest.mark.parametrize("n", [1, 255, 256, 257, 1000])
def test_sums_are_to_the_bit_those_of_adding_row_after_row(n: int) -> None:
    cls_MD = np.random.default_rng(n).normal(0, 30, (n, 5)).astype(np.float16)
    cls_MD.flags.writeable = False
    wide_MD = cls_MD.astype(np.float64)
    expected_2D, rows_2D = np.zeros((2, 5)), np.stack([wide_MD, wide_MD**2], 1)
    for row_2D in rows_2D:
        expected_2D += row_2D
    assert np.array_equal(sums_of([cls_MD], 5), expected_2D[None])
