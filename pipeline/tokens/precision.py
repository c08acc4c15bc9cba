"""`tokens.precision: auto`: what the store has of these tiles decides, and only then the hardware.

Bytes differ by precision, and so does the recipe. A colleague without a GPU would else answer every tile again in fp32
that a GPU has answered in bf16.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.base.items import TilesManifest
from pipeline.base.progress import console
from pipeline.base.store import Store
from pipeline.params.tokens import TokensParams
from pipeline.teachers.teacher import Teacher
from pipeline.tokens.job import Job
from pipeline.tokens.recipe import tokens_recipe

AUTO = ("bf16", "fp32")
"""What `auto` may come to."""


def resolved(
    tiles: TilesManifest, teacher: Teacher, params: TokensParams, store: Store, there: Callable[[], str]
) -> str:
    """The precision to answer in: as asked; for `auto` that in which the store has most of the tiles.

    Where it has none, or as many in each, `there` says what the device that will compute is best at.
    """
    if params.precision != "auto":
        return there()
    held = {precision: _held(tiles, teacher, params, store, precision) for precision in AUTO}
    if len(set(held.values())) == 1:
        return there()
    chosen = max(held, key=lambda precision: held[precision])
    total = sum(item.n for item in tiles.items)
    console.print(f"tokens: precision auto -> {chosen}: the store has {held[chosen]} of {total} tiles in it")
    return chosen


def _held(tiles: TilesManifest, teacher: Teacher, params: TokensParams, store: Store, precision: str) -> int:
    """Tiles of slides that the store has the answers to in a precision."""
    job = Job(tiles.recipe, tokens_recipe(tiles, teacher, params, precision), params, store, 0)
    if not any(folder.name in {job.key, job.held_out.key, job.of_images.key} for folder in store.recipes("tokens")):
        return 0
    return sum(item.n for item in tiles.items if store.has(job.of(item).ref(item.key)))
