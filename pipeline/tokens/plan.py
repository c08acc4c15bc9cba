"""What a run of the tokens stage will cost, said before it starts, and refused where it cannot fit."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.errors import StoreFull
from pipeline.housekeeping import free_bytes, human
from pipeline.manifest import Item, Manifest
from pipeline.params import TokensParams
from pipeline.progress import console
from pipeline.store import Ref, Store
from pipeline.tokens.teacher import Teacher
from pipeline.tokens.views import fields_nbytes
from pipeline.tokens.writer import tile_nbytes


def announce(
    tiles: Manifest, todo: Iterable[Item], recipe_key: str, teacher: Teacher, params: TokensParams, store: Store
) -> None:
    """Print tiles to compute, tiles cached, bytes to write and bytes free. Raises `StoreFull` where they do not fit."""
    items = list(todo)
    n_todo, n_all = sum(item.n for item in items), sum(item.n for item in tiles.items)
    per_tile = tile_nbytes(params.patch, params.n_views, teacher.tokens, teacher.width) + fields_nbytes(params)
    written = sum(store.partial_nbytes(Ref("tokens", recipe_key, item.key)) for item in items)
    to_write, free = max(0, n_todo * per_tile - written), free_bytes(store)
    console.print(
        f"tokens: {n_todo} tiles of {len(items)} slides to compute ({n_all - n_todo} of {n_all} tiles cached), "
        f"{human(to_write)} to write, {human(free)} free",
        soft_wrap=True,
    )
    if to_write > free:
        fix = "set `tokens.patch: none` or fewer views, free some space (`histill store prune`), or move HISTILL_STORE"
        raise StoreFull(f"{human(to_write)} of tokens, but {human(free)} free", where=str(store.root), fix=fix)
