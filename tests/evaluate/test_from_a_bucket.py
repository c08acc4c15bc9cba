"""A student is evaluated where its tiles and tokens lie, in a bucket, to the same figures as from a copy."""

from __future__ import annotations

from pathlib import Path

from made.run import Made

from pipeline.base.store import Ref, Store
from pipeline.remote.bucket import Bucket
from pipeline.remote.moves import push


def test_figures_of_the_bucket_are_those_of_a_copy(made: Made, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    named = [Ref.parse(text) for one in (made.tiles, made.tokens) for text in sorted(one.refs())]
    assert not push(made.store, Bucket.at(url), [ref for ref in named if ref.kind in ("tiles", "tokens")]).failed
    store = Store(tmp_path / "bare", remote=Bucket.at(url, 1 << 30))
    store.require(made.tokens)
    here = made.evaluate(tmp_path / "here")
    there = made._replace(store=store).evaluate(tmp_path / "there")
    assert here.summary == there.summary and here.items == there.items
    assert not [ref for ref in store.own_refs() if ref.kind in ("tiles", "tokens")], "an item was fetched whole"
