"""From tiles.json to tokens.json: the teacher answers every tile that the store has no answer for, once."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence

from pipeline.base.energy import Energy
from pipeline.base.errors import SlideRefused
from pipeline.base.items import TilesItem, TilesManifest, TokensItem, TokensManifest, TokensSummary
from pipeline.base.manifest import Refusal
from pipeline.base.progress import console, track
from pipeline.base.store import Ref, Store
from pipeline.cluster.refusals import Tracebacks
from pipeline.cluster.sharing import left_over
from pipeline.params.site import ClusterParams
from pipeline.params.tokens import TokensParams
from pipeline.teachers.loading import anywhere, load_teacher
from pipeline.teachers.registry import mpp_warning
from pipeline.teachers.teacher import Teacher
from pipeline.tokens import calibration
from pipeline.tokens.estimate import Estimate, announce, conclude
from pipeline.tokens.job import Job, Outcome
from pipeline.tokens.precision import resolved
from pipeline.tokens.recipe import tokens_recipe
from pipeline.tokens.run.copying import Work, copy_whole
from pipeline.tokens.run.scale_out import compute_all, precision_there


def make_tokens(
    tiles: TilesManifest, params: TokensParams, store: Store, demo_px: int, cluster: ClusterParams | None = None
) -> TokensManifest:
    """The teacher's answers for every slide of tiles.json; only what the store lacks is computed.

    Train slides in all views, the others as they are. Images of folders that another item has are not asked about
    again. A killed run goes on at the chunk where it was. A slide whose
    tiles do not decode is refused, or with `on_error: fail` raises `SlideRefused`. Raises `TeacherError` where the
    teacher cannot be had, its engine does not pass the gate or it answers NaN, and `StoreFull` before anything is
    computed that would not fit.
    """
    cluster = cluster or ClusterParams()
    teacher = load_teacher(params, store, demo_px)
    _warn_of_mpp(tiles, teacher)
    recipe = tokens_recipe(
        tiles, teacher, params, resolved(tiles, teacher, params, store, lambda: precision_there(params, cluster))
    )
    # The gate compares two engines and learns nothing: held-out tiles will do where there are no others.
    golden = tuple(
        calibration.choose(tiles.items, params.gate.tiles) or calibration.spread(tiles.items, params.gate.tiles)
    )
    job = Job(tiles.recipe, recipe, anywhere(params), store, demo_px, golden)
    uses = [*teacher.uses, *([] if params.patch == "none" else [str(job.calibration)])]
    work = _missing(tiles.items, job)
    outcome = Outcome()
    timings: dict[str, float] = {}
    if work or not all(store.has(Ref.parse(name)) for name in uses):
        _tell(teacher)
        announce(tiles, work, teacher, store)
        picked = tuple(calibration.choose(tiles.items, params.calibration_tiles))
        total = sum(item.n for part in work for item in part.items)
        began, energy, figures = time.monotonic(), Energy(), dict[str, float]()
        with track("tokens", total, "tiles") as advance:
            estimate = Estimate(total, advance)
            for part in work or [Work(job, [])]:
                left = copy_whole(part, teacher, estimate)
                again = bool(left) or not part.items
                while again:
                    done, of_gate = compute_all(left, part.job, picked, teacher, cluster, estimate)
                    outcome.add(done)
                    figures |= of_gate
                    passed = [item for item in left if item.key in done.elsewhere]
                    left = left_over(passed, functools.partial(_ref, part.job), store, "tokens")
                    estimate(sum(item.n for item in passed) - sum(item.n for item in left), "", True)
                    again = bool(left)
        made = [part.job.ref(item.key) for part in work for item in part.items if item.key not in outcome.refused]
        nbytes = sum(store.nbytes(ref) for ref in made)
        timings = conclude(outcome, nbytes, time.monotonic() - began, energy.joules()) | figures
    traces = Tracebacks("tokens")
    refused = {key: traces.keep(error.where, error) for key, error in outcome.refused.items()}
    return _manifest(tiles, job, teacher, refused, tuple(uses)).model_copy(update={"timings": timings})


def _ref(job: Job, item: TilesItem) -> Ref:
    return job.ref(item.key)


def _missing(items: Sequence[TilesItem], job: Job) -> list[Work]:
    """What the store lacks, each slide once, by id: train slides first, then those with one view."""
    missing: dict[str, tuple[Job, dict[str, TilesItem]]] = {}
    for item in sorted(items, key=lambda item: (not item.in_train, item.id)):
        part = job.of(item)
        if not job.store.has(part.ref(item.key)):
            missing.setdefault(part.key, (part, {}))[1].setdefault(item.key, item)
    return [Work(part, list(found.values()), part.known(list(found.values()))) for part, found in missing.values()]


def _tell(teacher: Teacher) -> None:
    """Print what the teacher's input is made by, and what was done to fit its weights; the demo's is its own."""
    if teacher.name == "demo":
        return
    console.print(f"tokens: teacher {teacher.name}: {teacher.preparation.told(teacher.input_px)}", soft_wrap=True)
    for remark in teacher.remarks:
        console.print(f"tokens: {remark}", soft_wrap=True, style="yellow")


def _warn_of_mpp(tiles: TilesManifest, teacher: Teacher) -> None:
    """Say so where the tiles' resolution is not the teacher's; folders of images have none."""
    target_mpp = tiles.target_mpp
    warning = mpp_warning(teacher.name, target_mpp, tiles.tile_px, teacher.input_px) if target_mpp else None
    if warning is not None:
        console.print(f"tokens: {warning}", soft_wrap=True, style="yellow")


def _manifest(
    tiles: TilesManifest, job: Job, teacher: Teacher, errors: Mapping[str, SlideRefused], uses: tuple[str, ...]
) -> TokensManifest:
    """tokens.json: what the store holds of tiles.json's slides; refusals before it are carried along."""
    refs = {item.id: job.of(item).ref(item.key) for item in tiles.items if item.key not in errors}
    items = tuple(
        TokensItem.of(
            item,
            item.key,
            job.store.digest(refs[item.id]),
            "" if refs[item.id].recipe == job.key else refs[item.id].recipe,
        )
        for item in tiles.items
        if item.id in refs
    )
    refused = [Refusal.of(item.id, errors[item.key]) for item in tiles.items if item.key in errors]
    return TokensManifest(
        recipe_key=job.key,
        recipe=job.recipe,
        items=items,
        refused=(*tiles.refused, *refused),
        summary=TokensSummary(
            slides=len(items),
            tiles=sum(item.n for item in items),
            views=job.params.n_views,
            width=teacher.width,
            tokens=teacher.tokens,
            nbytes=sum(job.store.nbytes(ref) for ref in set(refs.values())),
        ),
        uses=uses,
    )
