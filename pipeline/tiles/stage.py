"""From slides.json to tiles.json: what the store lacks is made, one item a slide, each whole or not at all."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.base.errors import BeingWritten, HistillError, SlideRefused, SlideUnavailable, some, some_lines
from pipeline.base.items import SlideItem, SlidesManifest, TilesItem, TilesManifest, TilesSummary
from pipeline.base.manifest import Refusal
from pipeline.base.progress import console, track
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.base.types import Recipe
from pipeline.cluster.refusals import Tracebacks
from pipeline.cluster.sharing import left_over
from pipeline.cluster.spread import each
from pipeline.params.site import ClusterParams
from pipeline.params.tiles import TilesParams
from pipeline.slides.identity import beside_identity, file_identity, folder_identity
from pipeline.slides.read.opening import open_slide
from pipeline.slides.read.reader import SlideReader
from pipeline.slides.sources import Source
from pipeline.tiles.folder import write_folder_tiles
from pipeline.tiles.item.meta import SlideMeta
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.lost.losses import remarks
from pipeline.tiles.whole_slide import write_slide_tiles

RECIPE_VERSION = 6
"""Count up when the same parameters give other bytes."""


SCALES = "-scales"
"""Ends the key of a slide that is cut at further scales."""
SAID, FIXES = 20, 3
"""Lines of remarks, or of refusals, that are printed; refusals whose remedies are, where no slide has a tile."""


@dataclass(frozen=True)
class _Task:
    slide: SlideItem
    source: Source
    ref: Ref


def tiles_recipe(params: TilesParams) -> Recipe:
    """All that a slide's tiles depend on besides the slide."""
    limit = params.max_tiles_per_slide
    return {
        "recipe_version": RECIPE_VERSION,
        "tile_px": params.tile_px,
        # Without further scales the key is what it was before there could be any.
        **({"also_mpp": list(params.also_mpp)} if params.also_mpp else {}),
        "target_mpp": params.target_mpp,
        "overlap_px": params.overlap_px,
        "edge": params.edge,
        "tissue": params.tissue.model_dump(mode="json"),
        # Only auto keeps a slide's own JPEG tiles; all other bytes are the same.
        "reader": params.reader,
        "reduced_dct": params.reduced_dct,
        "min_sharpness": params.min_sharpness,
        "min_stain": params.min_stain,
        "jpeg_quality": params.jpeg_quality,
        "max_tiles_per_slide": limit,
        # Without a limit nothing is drawn, and another seed changes no byte.
        "seed": None if limit is None else params.seed,
    }


def tiles_ref(slide: SlideItem, params: TilesParams) -> Ref:
    """Where a slide's tiles are: by its identity, and the mask and coordinates that the table names beside it.

    Where train slides are cut at further scales, theirs are other tiles than a held-out slide's.
    """
    key = slide.key + "".join(f"-{name}{digest[:12]}" for name, digest in _beside(slide).items())
    key += SCALES if _scales(slide, params).also_mpp else ""
    return Ref("tiles", recipe_key(tiles_recipe(params)), key)


def _scales(slide: SlideItem, params: TilesParams) -> TilesParams:
    """The parameters that hold for that slide: further scales are for slides that are trained on."""
    own = slide.in_train and slide.kind != "folder" and slide.coords is None
    return params if own else params.at(params.target_mpp)


def make_tiles(
    slides: SlidesManifest, sources: Mapping[str, Source], params: TilesParams, store: Store, cluster: ClusterParams
) -> TilesManifest:
    """The tiles of every slide of slides.json; only what the store lacks is made, and needs its slide.

    Slides that cannot be tiled are refused, after those that slides.json has refused; with `on_error: fail` the first
    one raises its `SlideRefused`.
    """
    refs = {slide.id: tiles_ref(slide, params) for slide in slides.items}
    errors: dict[Ref, SlideRefused] = {}
    traces = Tracebacks("tiles")
    todo: dict[Ref, _Task] = {}
    for slide in slides.items:
        ref = refs[slide.id]
        if store.has(ref) or ref in todo:
            continue
        if slide.id in sources:
            todo[ref] = _Task(slide, sources[slide.id], ref)
        else:
            fix = "is the disk it lies on mounted? if it has moved, mend its row in slides.csv"
            errors[ref] = SlideUnavailable("its file is not here", fix=fix)
    tasks = sorted(todo.values(), key=lambda task: (-_weight(task.slide), task.slide.id))
    work = functools.partial(_work, params=params, store=store)
    with track("tiles", len(tasks), "slides") as advance:
        while tasks:
            passed = []
            for task, result in each(work, tasks, cluster):
                if result is False:
                    passed.append(task)
                    continue
                if isinstance(result, SlideRefused):
                    errors[task.ref] = traces.keep(task.slide.id, result)
                elif isinstance(result, HistillError):
                    raise result
                advance(1, task.slide.id)
            tasks = left_over(passed, lambda task: task.ref, store, "tiles")
            advance(len(passed) - len(tasks))
    errors = {ref: error for ref, error in errors.items() if not store.has(ref)}
    refused = [Refusal.of(slide.id, errors[refs[slide.id]]) for slide in slides.items if refs[slide.id] in errors]
    if refused and params.on_error == "fail":
        raise SlideRefused(refused[0].reason, where=refused[0].id, fix=refused[0].fix)
    items = tuple(_item(slide, refs[slide.id], store) for slide in slides.items if refs[slide.id] not in errors)
    if not items:
        raise _none(refused)
    _say(items)
    return TilesManifest(
        recipe_key=recipe_key(tiles_recipe(params)),
        recipe=tiles_recipe(params),
        items=items,
        refused=(*slides.refused, *refused),
        summary=TilesSummary(
            slides=len(items),
            tiles=sum(item.n for item in items),
            tissue_mm2=round(sum(item.tissue_mm2 or 0.0 for item in items), 3),
            nbytes=sum(store.nbytes(ref) for ref in {refs[item.id] for item in items}),
        ),
    )


def _none(refused: Sequence[Refusal]) -> SlideRefused:
    """Of a run without any tile: there is nothing to go on with."""
    said = some([f"{one.id}: {one.reason}" for one in refused], SAID, "; ")
    fixes = "; ".join(f"{one.id}: {one.fix}" for one in refused[:FIXES])
    return SlideRefused(f"no slide has a tile ({said})", where="tiles", fix=fixes)


def _say(items: Sequence[TilesItem]) -> None:
    """Print what has to be said of slides; all of it is in tiles.json and in the report."""
    said = [f"{item.id}: {remark}" for item in items for remark in item.remarks]
    for line in some_lines(said, SAID, "more remarks: artifacts/tiles.json"):
        console.print(line)


def tile_slide(source: Source, slide: SlideItem, params: TilesParams, store: Store) -> None:
    """Make one slide's tiles where the store lacks them. Raises `SlideRefused`, and `BeingWritten` (store.write)."""
    ref = tiles_ref(slide, params)
    if not store.has(ref):
        # Claimed before it is looked at, so that another run takes the next slide.
        with store.write(ref, tiles_recipe(params), alone=True) as folder:
            if source.kind == "folder":
                _require_unchanged(folder_identity(source.path).key == slide.key)
                write_folder_tiles(source.path, folder, params)
            else:
                with (
                    source.here() as path,
                    open_slide(path, source.mpp, params.reader, reduced_dct=params.reduced_dct) as reader,
                ):
                    _require_unchanged(_is(slide, reader, source))
                    write_slide_tiles(source, folder, _scales(slide, params), reader)


def _work(task: _Task, params: TilesParams, store: Store) -> bool:
    """Make a slide's tiles; False where another process is at it."""
    if not store.has(task.ref) and store.being_written(task.ref):
        return False
    try:
        tile_slide(task.source, task.slide, params, store)
    except BeingWritten:
        return False
    return True


def _is(slide: SlideItem, reader: SlideReader, source: Source) -> bool:
    same_file = file_identity(reader).key == slide.key
    same_beside = beside_identity(source.mask, source.coords) == _beside(slide)
    return same_file and same_beside


def _beside(slide: SlideItem) -> dict[str, str]:
    """Digests of the files that the table names beside the slide, by what they are."""
    files = {"mask": slide.mask, "coords": slide.coords}
    return {name: digest for name, digest in files.items() if digest is not None}


def _require_unchanged(same: bool) -> None:
    """Others find these tiles by the slide's identity, so they must be of just that one. Raises `SlideUnavailable`."""
    if not same:
        what = "it has changed since the slides stage looked at it"
        raise SlideUnavailable(what, fix="dvc repro -f -s slides looks at it again")


def _weight(slide: SlideItem) -> int:
    """How much work a slide is, to start with the largest."""
    return (slide.width_px or 0) * (slide.height_px or 0) or slide.nbytes


def _item(slide: SlideItem, ref: Ref, store: Store) -> TilesItem:
    """The manifest's entry of a committed item; reads nothing but the store."""
    meta = TileReader(store.path(ref)).meta
    return TilesItem(
        id=slide.id,
        key=ref.item,
        digest=store.digest(ref),
        n=meta.n,
        kind=slide.kind,
        split=slide.split,
        label=slide.label,
        patient=slide.patient,
        tissue_mm2=meta.tissue_mm2,
        dropped=meta.dropped,
        labels=meta.labels,
        reader=meta.reader if isinstance(meta, SlideMeta) else None,
        as_scanned=meta.as_scanned if isinstance(meta, SlideMeta) else None,
        remarks=tuple(
            remarks(
                meta.n,
                meta.dropped,
                meta.remarks if isinstance(meta, SlideMeta) else (),
                folder=slide.kind == "folder",
            )
        ),
        features=slide.features,
    )
