"""A training reads hundreds of slides at once with few descriptors."""

from __future__ import annotations

from pathlib import Path

from made.cache import make_cache
from made.corpus import tiny
from made.many import few_descriptors, repeated

from pipeline.base.limits import open_files
from pipeline.base.store import Ref
from pipeline.student.train import train_student

SLIDES, SPARE, KEPT = 120, 96, 2
"""Slides, descriptors beside those that are open, and how many of each slide's seven tiles are taken."""


def test_slides_are_trained_on_with_fewer_descriptors_than_slides(tmp_path: Path) -> None:
    cache = make_cache(tmp_path)
    tile, token = cache.tiles.item("delta"), cache.tokens.item("delta")
    tiles = repeated(cache.store, Ref.of(cache.tiles, tile), tile, SLIDES)
    tokens = repeated(cache.store, Ref.of(cache.tokens, token), token, SLIDES)
    params = tiny(epochs=1, batch_size=80, block_rows=1, buffer_rows=240, train_fraction=KEPT / 7)
    with few_descriptors(open_files() + SPARE):
        manifest, _ = train_student(
            cache.tiles.model_copy(update={"items": tiles}),
            cache.tokens.model_copy(update={"items": tokens}),
            params,
            cache.store,
            out=tmp_path / "student",
            curve=tmp_path / "training.csv",
        )
    assert (manifest.summary.train_slides, manifest.summary.train_tiles) == (SLIDES, KEPT * SLIDES)
    assert manifest.summary.tiles_seen == KEPT * SLIDES
