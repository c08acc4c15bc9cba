"""An order in parts: every tile once, as many of each part in a batch, and a process touches its own chunks alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.cache import Cache, make_cache
from made.corpus import tiny

from pipeline.base.errors import TrainingError
from pipeline.base.store import Ref
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.corpus.loader import BatchShape, Loader, Share
from pipeline.corpus.order import Order
from pipeline.corpus.shards import ShardedOrder
from pipeline.student.ranks.number import of_recipe, order_of, told
from pipeline.student.recipe import train_recipe
from pipeline.student.train import ITEM, KIND, train_student

HOW = {"block_rows": 4, "buffer_rows": 32, "views": 3}
counts = st.lists(st.integers(1, 60), min_size=1, max_size=8)


def places(order: Order | ShardedOrder, epoch: int, size: int, part: slice) -> list[tuple[int, int, int]]:
    """Of that slice of all of an epoch's batches: slide, row, view."""
    made = order.epoch(epoch)
    batches = [made.batch(number, size, part.start, part.stop) for number in range(order.steps(size))]
    return [
        place for one in batches for place in zip(one.slide.tolist(), one.row.tolist(), one.view.tolist(), strict=True)
    ]


@given(counts, st.integers(2, 5), st.integers(1, 4), st.integers(0, 2**33), st.floats(0.2, 1))
def test_parts_share_all_tiles_evenly_and_have_none_twice(
    rows: list[int], shards: int, own: int, seed: int, fraction: float
) -> None:
    order = ShardedOrder(rows, shards, seed=seed, fraction=fraction, **HOW)
    kept = sum(Order([n], block_rows=4, buffer_rows=4, fraction=fraction).total for n in rows)
    totals = [part.total for part in order.parts]
    assert set(totals) == {kept // shards} and order.total == sum(totals)
    size = shards * own
    parts = [places(order, 1, size, slice(part * own, (part + 1) * own)) for part in range(shards)]
    tiles = [place[:2] for part in parts for place in part]
    assert len(set(tiles)) == len(tiles) == order.steps(size) * size
    assert all(len(part) == order.steps(size) * own for part in parts)


@given(counts, st.sampled_from([(1, 2), (2, 1), (2, 4), (4, 2), (3, 6)]), st.integers(0, 99))
def test_a_batch_is_the_same_whatever_the_number_of_processes(rows: list[int], n: tuple[int, int], seed: int) -> None:
    shards, world = n
    order = ShardedOrder([*rows, 24], shards, seed=seed, **HOW)
    size = 12
    own = size // world
    for epoch in (0, 3):
        whole = places(order, epoch, size, slice(0, size))
        shares = [places(order, epoch, size, slice(rank * own, (rank + 1) * own)) for rank in range(world)]
        steps = range(order.steps(size))
        assert whole == [place for step in steps for share in shares for place in share[step * own : (step + 1) * own]]


def test_parts_stay_and_orders_change_with_the_epoch_and_the_seed() -> None:
    order, other = (ShardedOrder([40, 30, 20, 10], 2, seed=seed, **HOW) for seed in (0, 1))
    first, second = (places(order, epoch, 10, slice(0, 5)) for epoch in (0, 1))
    assert {place[:2] for place in first} == {place[:2] for place in second} and first != second
    assert {place[:2] for place in places(other, 0, 10, slice(0, 5))} != {place[:2] for place in first}
    assert [place[2] for place in first] != [place[2] for place in places(order, 0, 10, slice(5, 10))]


def chunks_touched(cache: Cache, shards: int, rank: int, seed: int = 0) -> tuple[set[str], Corpus]:
    """Which files of answers a process has mapped that has read its share of an epoch, two processes being there."""
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)
    loader = Loader(
        corpus,
        order_of(corpus, tiny(seed=seed), shards),
        BatchShape(8, 32, dense=(0,)),
        share=Share(rank, 2),
        workers=2,
    )
    assert sum(len(batch.cls_ND) for batch in loader.batches(0, loader.steps_per_epoch)) == 20
    return {
        f"{item.id}/{name}/{chunk}"
        for item, reader in zip(corpus.items, corpus.tokens, strict=True)
        for name, array in (("cls", reader._cls), ("patch", reader._patch), ("scale", reader._scale))
        for chunk in array._maps
    }, corpus


def test_a_process_touches_the_chunks_of_its_own_part_alone(cache: Cache) -> None:
    whole, all_of_it = zip(*(chunks_touched(cache, 1, rank) for rank in (0, 1)), strict=True)
    there = sum(
        -(-len(array) // array.chunk_rows)
        for reader in all_of_it[0].tokens
        for array in (reader._cls, reader._patch, reader._scale)
    )
    assert [len(chunks) for chunks in whole] == [there, there] == [18, 18]
    # The chunk in which a cut lies is both processes', in each of the three arrays.
    shared = set()
    for seed in range(12):
        one, other = (chunks_touched(cache, 2, rank, seed)[0] for rank in (0, 1))
        assert len(one | other) == there and one != other
        shared.add(len(one & other))
    assert shared == {0, 3}


def test_a_batch_that_the_parts_cannot_share_is_refused(cache: Cache) -> None:
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)
    order = order_of(corpus, tiny(), 3)
    with pytest.raises(TrainingError, match=r"batch of 8 .* 1 processes and 3 parts .*\n.*batch_size: 9"):
        Loader(corpus, order, BatchShape(8, 32, dense=(0,)))


def test_the_recipe_has_the_parts_where_there_are_some(cache: Cache) -> None:
    assert of_recipe(tiny(), 40, 1) == {} == of_recipe(tiny(freeze_batch_norm=True), 40, 2)
    assert of_recipe(tiny(), 40, 2) == {"world": 2, "shards": 2}
    assert of_recipe(tiny(freeze_batch_norm=True, shards=2), 40, 2) == {"shards": 2}
    assert of_recipe(tiny(shards=2), 40, 1) == {"shards": 2}


def test_what_another_number_of_processes_changes_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = make_cache(tmp_path)
    params = tiny(epochs=1, batch_size=40, seed=77, objective={"patch": 0})
    corpus = open_corpus(cache.tiles, cache.tokens, cache.store)
    one, two = (train_recipe(cache.tokens, corpus, params, 32, world=world) for world in (1, 2))
    # What a kill has left at a checkpoint, and what it has left before it came to one.
    for name, files in (("e" * 32, ["checkpoint.pt"]), ("f" * 32, [])):
        partial = cache.store.root / KIND / name / ".partials" / ITEM / "some"
        partial.mkdir(parents=True)
        (partial.parents[2] / "recipe.json").write_text(json.dumps({**one, "world": 4, "shards": 4}))
        for file in files:
            (partial / file).touch()
    out, curve = tmp_path / "student", tmp_path / "curve.csv"
    made, _ = train_student(cache.tiles, cache.tokens, params, cache.store, out=out, curve=curve)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("began it before") == 1
    assert f"4 processes began it before ({KIND}/{'e' * 32}/{ITEM})" in said and "-> start 4 to go on there" in said
    ref, total = Ref(KIND, "0" * 32, ITEM), corpus.kept_total
    first, second, third = told(two, cache.store, ref, params, total, 2)
    assert "2 processes: another number of them trains another student, since each process's batch norm" in first
    assert {"1 process trained it", "4 processes began it"} == {
        line.partition(" before")[0] for line in (second, third)
    }
    assert any(made.recipe_key in line and "-> start one" in line for line in (second, third))
    alike = params.model_copy(update={"freeze_batch_norm": True})
    assert next(told(two, cache.store, ref, alike, total, 2)).endswith("they train what one would")
