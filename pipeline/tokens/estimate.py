"""What a run of the tokens stage will cost, said before it starts and from its first batches, and what it has cost."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pipeline.base.errors import StoreFull
from pipeline.base.files import free_bytes, human
from pipeline.base.items import TilesManifest
from pipeline.base.progress import Advance, console, seconds_text
from pipeline.base.store import Store
from pipeline.teachers.teacher import Teacher
from pipeline.tokens.item.writer import tile_nbytes
from pipeline.tokens.job import Outcome
from pipeline.tokens.run.copying import Work
from pipeline.views import fields_nbytes

_FIRST_BATCHES = 4
"""After one to warm up; an estimate from fewer would be a guess."""


def announce(tiles: TilesManifest, work: Sequence[Work], teacher: Teacher, store: Store) -> None:
    """Print tiles to compute, tiles cached, bytes to write and bytes free. Raises `StoreFull` where they do not fit."""
    n_slides, n_all = sum(len(part.items) for part in work), sum(item.n for item in tiles.items)
    n_todo, n_known = sum(part.n_asked for part in work), sum(part.n_known for part in work)
    to_write, free = 0, free_bytes(store.root)
    for part in work:
        params = part.job.params
        per_tile = tile_nbytes(params.patch, params.n_views, teacher.tokens, teacher.width) + fields_nbytes(params)
        written = store.partial_nbytes([part.job.ref(item.key) for item in part.items])
        to_write += max(0, sum(item.n for item in part.items) * per_tile - written)
    known = f", {n_known} of them as images of other folders" if n_known else ""
    console.print(
        f"tokens: {n_todo} tiles of {n_slides} slides to compute ({n_all - n_todo} of {n_all} tiles cached{known}), "
        f"{human(to_write)} to write, {human(free)} free",
        soft_wrap=True,
    )
    if to_write > free:
        fix = "set `tokens.patch: none` or fewer views, free some space (`histill store prune`), or move HISTILL_STORE"
        raise StoreFull(f"{human(to_write)} of tokens, but {human(free)} free", where=str(store.root), fix=fix)


class Estimate:
    """Hands progress on, and says once, from the first batches, how long the rest will take."""

    def __init__(self, total: int, advance: Advance) -> None:
        self._left, self._advance = total, advance
        self._seen: list[tuple[float, int]] = []

    def __call__(self, tiles: int, slide_id: str, cached: bool) -> None:
        """`tiles` more of the slide are done: computed, or found in the store, which says nothing of the speed."""
        self._advance(tiles, slide_id)
        self._left -= tiles
        if tiles and not cached and len(self._seen) <= _FIRST_BATCHES:
            self._seen.append((time.monotonic(), tiles))
            if len(self._seen) == _FIRST_BATCHES + 1:
                seconds = max(1e-6, self._seen[-1][0] - self._seen[0][0])
                speed = sum(n for _, n in self._seen[1:]) / seconds
                left = seconds_text(self._left / speed)
                console.print(f"tokens: {speed:.1f} tiles/s in the first batches, so about {left} more", soft_wrap=True)


def conclude(outcome: Outcome, nbytes: int, seconds: float, joules: float | None) -> dict[str, float]:
    """Print what the run has cost, and give it as figures for the metrics; `joules` is None where no driver tells."""
    if not outcome.tiles:
        return {}
    speed = outcome.tiles / max(seconds, 1e-9)
    figures = {"tiles_per_s": round(speed, 2), "gb_written": round(nbytes / 1e9, 4)}
    energy = "energy not measured"
    if joules is not None:
        figures["energy_j"] = round(joules, 1)
        energy = f"{joules / outcome.tiles:.2f} J a tile"
    console.print(f"tokens: {speed:.1f} tiles/s, {human(nbytes)} written, {energy}", soft_wrap=True)
    spent = {f"{name.replace(' ', '_')}_s": round(seconds, 3) for name, seconds in sorted(outcome.spent.items())}
    return figures | spent
