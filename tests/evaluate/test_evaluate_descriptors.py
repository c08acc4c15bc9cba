"""Evaluation reads many held-out slides with fewer descriptors than slides."""

from __future__ import annotations

from pathlib import Path

from made.many import few_descriptors, repeated
from made.run import Made

from pipeline.base.limits import open_files
from pipeline.base.store import Ref

SLIDES, SPARE = 10, 16


def test_twenty_held_out_slides_are_evaluated_with_16_descriptors(made: Made, tmp_path: Path) -> None:
    tiles, tokens = list(made.tiles.items[:2]), list(made.tokens.items[:2])
    for name in "cd":
        tile, token = made.tiles.item(name), made.tokens.item(name)
        tiles += repeated(made.store, Ref.of(made.tiles, tile), tile, SLIDES)
        tokens += repeated(made.store, Ref.of(made.tokens, token), token, SLIDES)
    many = made._replace(
        tiles=made.tiles.model_copy(update={"items": tuple(tiles)}),
        tokens=made.tokens.model_copy(update={"items": tuple(tokens)}),
    )
    with few_descriptors(open_files() + SPARE):
        found = many.evaluate(tmp_path, mil_epochs=1)
    assert len(found.items) == 2 * SLIDES
