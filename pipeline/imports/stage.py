"""From tiles.json to tokens.json where another tool has computed the features: none is computed again.

They become CLS tokens under a recipe that says where they come from, so that nothing computed is ever mistaken for
them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pipeline.base.errors import HistillError, SlideRefused, SlideUnavailable, TeacherError
from pipeline.base.files import human
from pipeline.base.items import (
    UNKNOWN,
    TilesItem,
    TilesManifest,
    TokensItem,
    TokensManifest,
    TokensSummary,
)
from pipeline.base.manifest import Refusal
from pipeline.base.progress import console, track
from pipeline.base.store import Store, recipe_key
from pipeline.base.types import Json, Recipe
from pipeline.imports.formats.opening import open_features
from pipeline.imports.keeping import Given, Origin, Taking
from pipeline.imports.sharing_out import keep_all, processes_for
from pipeline.imports.verifying import Check, Verified, facts, verify
from pipeline.params.site import ClusterParams
from pipeline.params.tokens import TokensParams
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.registry import entry_of
from pipeline.tokens.item.attributes import IMPORTED
from pipeline.tokens.recipe import RECIPE_VERSION

PRECISION = "fp32"
"""In which the teacher is asked, here and where it is needed beside these answers."""


def take_features(
    tiles: TilesManifest,
    paths: Mapping[str, Path],
    params: TokensParams,
    store: Store,
    demo_px: int,
    cluster: ClusterParams,
    marks: Mapping[str, str] = MappingProxyType({}),
) -> TokensManifest:
    """The imported features of every slide of tiles.json; only what the store lacks is read.

    `paths` are the files by slide id, `marks` what those were marked by (slides/looked.py) as the digests in tiles.json
    were taken, where that is known. A slide that has no file, or whose features cannot be taken, is refused; with
    `on_error: fail` the first one raises its `SlideRefused`. Raises `TeacherError` where the teacher is neither here
    nor in the registry, or its own answers are not what was imported.
    """
    try:
        teacher, why = load_teacher(params, store, demo_px), ""
        described: Recipe = teacher.describe()
    except TeacherError as error:
        teacher, why = None, error.what
        described = _of_registry(params.teacher, error)
    taking = _taking(tiles, paths, params, described)
    with_file = [item for item in tiles.items if item.features is not None]
    errors = {item.id: _without() for item in tiles.items if item.features is None}
    todo = _missing(with_file, paths, taking, store, errors)
    check = None if teacher is None else Check(teacher, paths, taking, params.imported, store, marks)
    verified = _verified([item for item in with_file if item.id in paths], check, taking, why)
    errors |= verified.refused
    todo = [item for item in todo if item.id not in errors]
    began = time.monotonic()
    with track("tokens", sum(item.n for item in todo), "tiles") as advance:
        given = [Given(item, paths[item.id], marks.get(item.id)) for item in todo]
        errors |= keep_all(given, taking, store, processes_for(given, cluster), advance)
    if errors and params.on_error == "fail":
        slide_id = min(errors)
        raise SlideRefused(errors[slide_id].what, where=slide_id, fix=errors[slide_id].fix)
    _tell(todo, paths, taking, errors, time.monotonic() - began)
    return _manifest(tiles, taking, errors, verified, store)


def _taking(tiles: TilesManifest, paths: Mapping[str, Path], params: TokensParams, teacher: Recipe) -> Taking:
    """How slides are kept, as the first one's file that can be opened says."""
    origin: Origin | None = None
    first: HistillError | None = None
    for item in sorted(tiles.items, key=lambda item: item.id):
        if item.id not in paths:
            continue
        try:
            origin = Origin.of(open_features(paths[item.id], item.id))
            break
        except SlideRefused as error:
            first = first or error
    if origin is None:
        what = first.what if first else "no file of features is here"
        fix = first.fix if first else "is the disk that they lie on mounted?"
        raise SlideUnavailable(what, where="tokens", fix=fix)
    recipe: dict[str, Json] = {
        "recipe_version": RECIPE_VERSION,
        "tiles": tiles.recipe_key,
        "teacher": dict(teacher),
        "precision": PRECISION,
        "patch": "none",
        "views": 1,
        "calibration_tiles": None,
        IMPORTED: origin.recipe,
    }
    width, grid = teacher["width"], teacher["grid"]
    assert isinstance(width, int) and isinstance(grid, list)
    height, across = (int(str(side)) for side in grid)
    return Taking(tiles, recipe, recipe_key(recipe), params.teacher, width, (height, across), origin)


def _of_registry(name: str, error: TeacherError) -> Recipe:
    """What is known of a teacher that is not here. Raises the `TeacherError` where that is nothing."""
    entry = entry_of(name)
    if entry is None:
        fix = f"{error.fix}; of a teacher that the registry does not know, nothing can be imported without its weights"
        raise TeacherError(error.what, where=error.where, fix=fix) from None
    return {
        "name": name,
        "weights_digest": UNKNOWN,
        "width": entry.width,
        "grid": list(entry.grid),
        "input_px": entry.input_px,
    }


def _without() -> SlideRefused:
    what = (
        "it has no features, and other slides of the table have: what was imported is not mixed with what is computed"
    )
    return SlideRefused(what, fix="import its features too, or put its row into a slide table of its own")


def _missing(
    items: Sequence[TilesItem], paths: Mapping[str, Path], taking: Taking, store: Store, errors: dict[str, SlideRefused]
) -> list[TilesItem]:
    """What the store lacks, the largest first; slides whose file is not here are errors."""
    todo = []
    for item in items:
        if store.has(taking.ref(item)):
            continue
        if item.id in paths:
            todo.append(item)
        else:
            errors[item.id] = SlideUnavailable("its features are not here", fix="is the disk they lie on mounted?")
    return sorted(todo, key=lambda item: (-item.n, item.id))


def _verified(items: Sequence[TilesItem], check: Check | None, taking: Taking, why: str) -> Verified:
    """`why` there is nothing to check by."""
    if check is not None and check.params.check_tiles:
        return verify(items, check)
    told = facts((), taking, why or "tokens.imported.check_tiles is 0")
    console.print(f"tokens: imported features, not verified: {told.why}", soft_wrap=True, style="yellow")
    return Verified(told, {})


def _tell(
    todo: Sequence[TilesItem],
    paths: Mapping[str, Path],
    taking: Taking,
    errors: Mapping[str, SlideRefused],
    seconds: float,
) -> None:
    done = [item for item in todo if item.id not in errors]
    if done:
        nbytes, tiles = sum(paths[item.id].stat().st_size for item in done), sum(item.n for item in done)
        rate = human(nbytes / max(seconds, 1e-9))
        what = f"{tiles} tiles of {len(done)} slides taken from {human(nbytes)} of features ({taking.origin}), {rate}/s"
        console.print(f"tokens: {what}", soft_wrap=True)


def _manifest(
    tiles: TilesManifest, taking: Taking, errors: Mapping[str, SlideRefused], verified: Verified, store: Store
) -> TokensManifest:
    kept = [item for item in tiles.items if item.id not in errors]
    refs = {item.id: taking.ref(item) for item in kept}
    items = tuple(TokensItem.of(item, refs[item.id].item, store.digest(refs[item.id])) for item in kept)
    refused = [Refusal.of(item.id, errors[item.id]) for item in tiles.items if item.id in errors]
    return TokensManifest(
        recipe_key=taking.key,
        recipe=taking.recipe,
        items=items,
        refused=(*tiles.refused, *refused),
        summary=TokensSummary(
            slides=len(items),
            tiles=sum(item.n for item in items),
            views=1,
            width=taking.width,
            tokens=taking.grid[0] * taking.grid[1],
            nbytes=sum(map(store.nbytes, refs.values())),
            imported=verified.facts,
        ),
        uses=verified.uses,
    )
