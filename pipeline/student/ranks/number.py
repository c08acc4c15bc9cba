"""What the number of processes is to a training: part of what is trained, or nothing; and what another number changes.

Where batch norm is held, the batch is the same and no pair of mixed tiles is parted, N processes train what one does.
Else their number is in the recipe, and then it costs nothing more to read in as many parts (`shards`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.base.living.unfinished import PARTIALS
from pipeline.base.store import RECIPE_FILE, Ref, Store
from pipeline.base.types import Json, Recipe
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.loader import shared_batch
from pipeline.corpus.order import Order
from pipeline.corpus.shards import ShardedOrder
from pipeline.inputs.mixing import pairs_stay_together
from pipeline.params.student import StudentParams
from pipeline.student.checkpoint import CHECKPOINT_FILE

BY_NUMBER = ("world", "shards")
"""What a recipe has of processes."""


def why_not_as_one(params: StudentParams, total: int, world: int) -> str:
    """Why so many processes train otherwise than one does, of `total` tiles; empty where they do not."""
    shards = params.shards or 1
    one, many = (shared_batch(params.batch_size, total, n, shards) for n in (1, world))
    if world == 1:
        return ""
    if not params.freeze_batch_norm:
        return "each process's batch norm follows its own tiles (student.freeze_batch_norm)"
    if one != many:
        return f"a batch has {many} tiles, with one process {one}"
    if params.mix.kind != "none" and not pairs_stay_together(many // world):
        return "a process has an odd number of tiles, so that a pair of mixed ones is parted"
    return ""


def shards_of(params: StudentParams, total: int, world: int) -> int:
    """Parts of the order: those that are told, else one a process where their number is part of what is trained."""
    return params.shards or (world if why_not_as_one(params, total, world) else 1)


def order_of(corpus: Corpus, params: StudentParams, shards: int) -> Order | ShardedOrder:
    """In which a training sees the corpus."""
    make = Order if shards == 1 else functools.partial(ShardedOrder, shards=shards)
    return make(
        corpus.rows,
        block_rows=params.block_rows,
        buffer_rows=params.buffer_rows,
        views=corpus.views,
        seed=params.seed,
        fraction=corpus.fraction,
    )


def of_recipe(params: StudentParams, total: int, world: int) -> dict[str, Json]:
    """What the weights depend on of the processes: nothing where they train what one does, in one part."""
    shards = shards_of(params, total, world)
    found: dict[str, Json] = {"world": world} if why_not_as_one(params, total, world) else {}
    return {**found, "shards": shards} if shards > 1 else found


def told(recipe: Recipe, store: Store, ref: Ref, params: StudentParams, total: int, world: int) -> Iterator[str]:
    """What is to be said before a training by `world` processes begins.

    Of the processes, and of trainings in the store that are the same but for their number.
    """
    if world > 1:
        why = why_not_as_one(params, total, world)
        what = f"another number of them trains another student, since {why}" if why else "they train what one would"
        yield f"{world} processes: {what}"
    for other in _others(recipe, store, ref.kind):
        n, its = other.processes, Ref(ref.kind, other.key, ref.item)
        state = "trained it" if store.is_here(its) else "began it" if other.began(store, its) else ""
        if state:
            before = "1 process" if n == 1 else f"{n} processes"
            what = f"{before} {state} before ({its}), and what they have is not gone on with: it is another student"
            go_on = "start one" if n == 1 else f"start {n}"
            yield f"{what}\n  -> {go_on} to go on there; with student.freeze_batch_norm any number trains the same"


@dataclass(frozen=True)
class _Other:
    key: str
    processes: int

    def began(self, store: Store, ref: Ref) -> bool:
        """Whether it has a checkpoint."""
        partials = store.root / ref.kind / ref.recipe / PARTIALS / ref.item
        return any(partials.glob(f"*/{CHECKPOINT_FILE}"))


def _others(recipe: Recipe, store: Store, kind: str) -> Iterator[_Other]:
    """Of this store, recipes that differ from this one in processes alone."""
    own = _without(recipe)
    for file in sorted((store.root / kind).glob(f"*/{RECIPE_FILE}")):
        found: Recipe = json.loads(file.read_bytes())
        if _without(found) == own and found != recipe:
            world = found.get("world", 1)
            yield _Other(file.parent.name, world if isinstance(world, int) else 1)


def _without(recipe: Recipe) -> dict[str, Json]:
    return {name: value for name, value in recipe.items() if name not in BY_NUMBER}
