"""From tiles.json to tokens.json: the teacher answers every tile that the store has no answer for, once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pipeline.errors import SlideRefused
from pipeline.manifest import Item, Manifest, Refusal
from pipeline.params import ClusterParams, TokensParams
from pipeline.progress import console, track
from pipeline.store import Ref, Store, recipe_key
from pipeline.tokens import calibration
from pipeline.tokens.energy import Energy
from pipeline.tokens.job import Job
from pipeline.tokens.loading import load_teacher
from pipeline.tokens.plan import Estimate, announce, conclude
from pipeline.tokens.scale_out import compute_all, precision_there
from pipeline.tokens.teacher import Teacher
from pipeline.tokens.teachers import mpp_warning
from pipeline.tokens.views import stores_fields

RECIPE_VERSION = 2
"""Count up when the same parameters give other bytes."""


def make_tokens(
    tiles: Manifest, params: TokensParams, store: Store, demo_px: int, cluster: ClusterParams | None = None
) -> Manifest:
    """The teacher's answers for every slide of tiles.json; only what the store lacks is computed.

    A killed run goes on at the chunk where it was. A slide whose tiles do not decode is refused, or with
    `on_error: fail` raises `SlideRefused`. Raises `TeacherError` where the teacher cannot be had, its engine does not
    pass the gate or it answers NaN, and `StoreFull` before anything is computed that would not fit.
    """
    cluster = cluster or ClusterParams()
    teacher = load_teacher(params, store, demo_px)
    _warn_of_mpp(tiles, teacher)
    recipe = tokens_recipe(tiles, teacher, params, precision_there(params, cluster))
    golden = tuple(calibration.choose(tiles.items, params.gate.tiles))
    job = Job(tiles.recipe, recipe, params, store, demo_px, golden)
    uses = [*teacher.uses, *([] if params.patch == "none" else [str(job.calibration)])]
    todo = {item.key: item for item in tiles.items if not store.has(job.ref(item.key))}
    refused: dict[str, SlideRefused] = {}
    timings: dict[str, float] = {}
    if todo or not all(store.has(Ref.parse(name)) for name in uses):
        announce(tiles, todo.values(), job.key, teacher, params, store)
        choice = tuple(calibration.choose(tiles.items, params.calibration_tiles))
        items, energy = sorted(todo.values(), key=lambda item: item.id), Energy()
        began, total = time.monotonic(), sum(item.n for item in items)
        with track("tokens", total, "tiles") as advance:
            estimate = Estimate(total, advance)
            outcome, figures = compute_all(items, job, choice, teacher, cluster, estimate)
        refused = outcome.refused
        nbytes = sum(store.nbytes(job.ref(key)) for key in todo if key not in refused)
        timings = conclude(outcome, nbytes, time.monotonic() - began, energy.joules()) | figures
    return _manifest(tiles, recipe, teacher, params, store, refused, tuple(uses)).model_copy(
        update={"timings": timings}
    )


def _warn_of_mpp(tiles: Manifest, teacher: Teacher) -> None:
    """Say so where the tiles' resolution is not the teacher's; folders of images have none."""
    target_mpp, tile_px = tiles.recipe.get("target_mpp"), tiles.recipe.get("tile_px")
    warning = mpp_warning(teacher.name, target_mpp, tile_px, teacher.input_px) if target_mpp and tile_px else None
    if warning is not None:
        console.print(f"tokens: {warning}", soft_wrap=True, style="yellow")


def tokens_recipe(tiles: Manifest, teacher: Teacher, params: TokensParams, precision: str) -> dict[str, Any]:
    """All that a slide's tokens depend on besides its tiles; `precision` is resolved, since its bytes differ."""
    return {
        "recipe_version": RECIPE_VERSION,
        "tiles": tiles.recipe_key,
        "teacher": teacher.describe(),
        "precision": precision,
        "patch": params.patch,
        "views": params.views,
        # Without patch tokens nothing is standardised.
        "calibration_tiles": None if params.patch == "none" else params.calibration_tiles,
    } | ({"augment": params.augment.model_dump(mode="json")} if stores_fields(params) else {})


def _manifest(
    tiles: Manifest,
    recipe: dict[str, Any],
    teacher: Teacher,
    params: TokensParams,
    store: Store,
    errors: Mapping[str, SlideRefused],
    uses: tuple[str, ...],
) -> Manifest:
    """tokens.json: what the store holds of tiles.json's slides; refusals before it are carried along."""
    key = recipe_key(recipe)
    kept = [item for item in tiles.items if item.key not in errors]
    items = tuple(
        Item(
            id=item.id,
            key=item.key,
            digest=store.digest(Ref("tokens", key, item.key)),
            n=item.n,
            info={name: item.info.get(name) for name in ("split", "label", "patient", "kind")},
        )
        for item in kept
    )
    refused = [Refusal.of(item.id, errors[item.key]) for item in tiles.items if item.key in errors]
    return Manifest(
        stage="tokens",
        recipe_key=key,
        recipe=recipe,
        items=items,
        refused=(*tiles.refused, *refused),
        summary={
            "slides": len(items),
            "tiles": sum(item.n for item in items),
            "views": params.n_views,
            "width": teacher.width,
            "tokens": teacher.tokens,
            "nbytes": sum(store.nbytes(Ref("tokens", key, item_key)) for item_key in {item.key for item in items}),
        },
        uses=uses,
    )
