"""One slide through `slides`, `tiles` and `tokens` on the workers that params.yaml names, in a store of its own.

What the run would use of the store is read from there; what the trial makes lies beside it, so that a worker has to see
both, and goes with the trial. Of the slide few tiles are taken. Where its row names features, they are taken by this
process, as the stage does, and only further teachers (`tokens.also`) are asked on a worker.
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
from pipeline.base.names import at_home
from pipeline.base.store import Store
from pipeline.base.types import Frozen
from pipeline.cluster.look import Seen, Sign, look
from pipeline.cluster.spread import each
from pipeline.imports.stage import take_features
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.params.tokens import TokensParams
from pipeline.remote.address import is_url
from pipeline.slides.catalogue import catalogue
from pipeline.slides.ids import DEMO
from pipeline.slides.sources import sources
from pipeline.slides.table import format_table, read_table
from pipeline.tiles.stage import make_tiles
from pipeline.tokens.several import together
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
    has_features: bool
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

    def imported(self, tiles: TilesManifest) -> TokensManifest:
        """In this process: the slide's features as the first teacher's answers."""
        here = sources(Path(self.slides.table), self.store, self.slides)
        paths = {slide_id: source.features for slide_id, source in here.items() if source.features is not None}
        return take_features(tiles, paths, self.tokens.each[0], self.store, self.slides.demo_px, _THERE)

    def answered(self, tiles: TilesManifest) -> TokensManifest:
        """On a worker for a GPU, by each teacher that computes."""
        asked = [one.one_view for one in self.tokens.each[1:]] if self.has_features else self.tokens.each
        first, *also = (make_tokens(tiles, one, self.store, self.slides.demo_px, _THERE) for one in asked)
        return together(first, also)

    def steps(self, cluster: ClusterParams) -> Iterator[tuple[str, Callable[..., Made], ClusterParams, bool]]:
        """Stage, what it does with what the one before has made, where, and whether it wants a GPU."""
        yield "slides", self.catalogued, cluster, False
        yield "tiles", self.tiled, cluster, False
        if self.has_features:
            yield "tokens", self.imported, _THERE, False
        if not self.has_features or len(self.tokens.each) > 1:
            yield "tokens", self.answered, cluster, True


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

        def whole(given: str | None) -> str | None:
            if given is None or DEMO.fullmatch(given) or is_url(given):
                return given
            return str(beside / at_home(given))

        # Of the split train, as the teacher is calibrated on such.
        alone = dataclasses.replace(row, path=whole(row.path) or "", split=TRAIN, label=None, patient=None)
        alone = dataclasses.replace(alone, mask=whole(row.mask), coords=whole(row.coords), features=whole(row.features))
        write_atomic(folder / "slides.csv", format_table([alone]).encode())
        yield Trial(
            row.slide_id,
            row.features is not None,
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
    for stage, work, where, gpu in trial.steps(cluster):
        seen = _seen(trial.store.root, where, gpu)
        if isinstance(seen, HistillError):
            yield Tried(stage=stage, wrong=seen.what, fix=seen.fix)
            return
        if seen.store:
            fix = "mount the store at the same path on every machine, or point store.root at one that is"
            yield Tried(stage=stage, seen=seen, wrong=seen.store, fix=fix)
            return
        start = time.monotonic()
        ((_, result),) = each(work, [made], where, gpu=gpu)
        told = {"stage": stage, "seen": seen, "seconds": time.monotonic() - start}
        if isinstance(result, HistillError):
            yield Tried.model_validate({**told, "wrong": str(result).partition("\n")[0], "fix": result.fix})
            return
        if result.refused:
            yield Tried.model_validate({**told, "wrong": result.refused[0].reason, "fix": result.refused[0].fix})
            return
        # Further teachers are asked about the tiles too.
        made = made if stage == "tokens" else result
        n = "" if stage == "slides" else f"{sum(item.n for item in result.items)} tiles of "
        yield Tried.model_validate({**told, "made": f"{n}{trial.slide_id}"})


def _seen(folder: Path, cluster: ClusterParams, gpu: bool) -> Seen | HistillError:
    sign = Sign.put(folder)
    try:
        ((_, seen),) = each(look, [sign], cluster, gpu=gpu)
    finally:
        sign.path.unlink(missing_ok=True)
    return seen
