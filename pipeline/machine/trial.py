"""One slide through `slides`, `tiles` and `tokens` on the workers that params.yaml names, in a store of its own.

What the run would use of the store is read from there; what the trial makes lies beside it, so that a worker has to see
both, and goes with the trial. Of the slide few tiles are taken.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.base.errors import HistillError, TableError
from pipeline.base.files import write_atomic
from pipeline.base.items import TRAIN, SlidesManifest, TilesManifest, TokensManifest
from pipeline.base.store import Store
from pipeline.base.types import Frozen
from pipeline.cluster.look import Seen, Sign, look
from pipeline.cluster.spread import each
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.params.tokens import TokensParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.ids import DEMO
from pipeline.slides.sources import sources
from pipeline.slides.table import format_table, read_table
from pipeline.tiles.stage import make_tiles
from pipeline.tokens.stage import make_tokens

TILES = 32
"""Of the slide, at most."""
Made = SlidesManifest | TilesManifest | TokensManifest
_THERE = ClusterParams(workers=1)
"""A worker does its part itself."""


class Tried(Frozen):
    """Of one stage: what its worker saw, and what became of the slide there: `wrong` is empty where all went well."""

    stage: str
    seen: Seen | None = None
    seconds: float | None = None
    made: str = ""
    wrong: str = ""
    fix: str = ""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One row of the slide table, and the params of the three stages for it."""

    slide_id: str
    slides: SlidesParams
    tiles: TilesParams
    tokens: TokensParams
    store: Store

    def catalogued(self, _: None) -> SlidesManifest:
        """On a worker for cores."""
        return catalogue(self.slides, self.store, _THERE)

    def tiled(self, slides: SlidesManifest) -> TilesManifest:
        """On a worker for cores."""
        here = sources(Path(self.slides.table), self.store, self.slides)
        return make_tiles(slides, here, self.tiles, self.store, _THERE)

    def answered(self, tiles: TilesManifest) -> TokensManifest:
        """On a worker for a GPU."""
        return make_tokens(tiles, self.tokens, self.store, self.slides.demo_px, _THERE)


@contextlib.contextmanager
def trial_of(
    slides: SlidesParams, tiles: TilesParams, tokens: TokensParams, store: Store, slide_id: str | None
) -> Iterator[Trial]:
    """Of that slide, or of the table's first. Raises `TableError` where the table has no such row."""
    rows = read_table(slides.table, slides.missing).rows
    row = next((row for row in rows if slide_id in (None, row.slide_id)), None)
    if row is None:
        fix = f"it has {', '.join(row.slide_id for row in rows[:5])}" if rows else "add slides"
        raise TableError(f"no slide {slide_id or 'in it'}", where=slides.table, fix=fix)
    folder = store.root / f".trial-{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        beside = Path(slides.table).absolute().parent
        path = row.path if DEMO.fullmatch(row.path) else str(beside / row.path)
        mask, coords = (None if value is None else str(beside / value) for value in (row.mask, row.coords))
        # Of the split train, as the teacher is calibrated on such.
        alone = dataclasses.replace(
            row, path=path, mask=mask, coords=coords, split=TRAIN, label=None, patient=None, features=None
        )
        write_atomic(folder / "slides.csv", format_table([alone]).encode())
        yield Trial(
            row.slide_id,
            slides.model_copy(update={"table": str(folder / "slides.csv")}),
            tiles.model_copy(update={"max_tiles_per_slide": min(TILES, tiles.max_tiles_per_slide or TILES)}),
            tokens,
            Store(folder, (store.root, *store.bases), trust=store.trust),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(trial: Trial, cluster: ClusterParams) -> Iterator[Tried]:
    """Each stage, as far as they come: one that fails is the last. Raises `ClusterError` where there is no worker."""
    made: Made | None = None
    steps: tuple[tuple[str, Callable[..., Made], bool], ...] = (
        ("slides", trial.catalogued, False),
        ("tiles", trial.tiled, False),
        ("tokens", trial.answered, True),
    )
    for stage, work, gpu in steps:
        seen = _seen(trial.store.root, cluster, gpu)
        if isinstance(seen, HistillError):
            yield Tried(stage=stage, wrong=seen.what, fix=seen.fix)
            return
        if seen.store:
            fix = "mount the store at the same path on every machine, or point store.root at one that is"
            yield Tried(stage=stage, seen=seen, wrong=seen.store, fix=fix)
            return
        start = time.monotonic()
        ((_, result),) = each(work, [made], cluster, gpu=gpu)
        told = {"stage": stage, "seen": seen, "seconds": time.monotonic() - start}
        if isinstance(result, HistillError):
            yield Tried.model_validate({**told, "wrong": str(result).partition("\n")[0], "fix": result.fix})
            return
        if result.refused:
            yield Tried.model_validate({**told, "wrong": result.refused[0].reason, "fix": result.refused[0].fix})
            return
        made = result
        n = "" if stage == "slides" else f"{sum(item.n for item in made.items)} tiles of "
        yield Tried.model_validate({**told, "made": f"{n}{trial.slide_id}"})


def _seen(folder: Path, cluster: ClusterParams, gpu: bool) -> Seen | HistillError:
    sign = Sign.put(folder)
    try:
        ((_, seen),) = each(look, [sign], cluster, gpu=gpu)
    finally:
        sign.path.unlink(missing_ok=True)
    return seen
