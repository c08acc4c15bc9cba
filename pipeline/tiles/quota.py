"""As many tiles of a slide as are asked for: drawn over its tissue, and drawn again for those that are not worth it.

Whether a tile decodes and is in focus only its pixels tell, and a slide is not decoded as a whole to find some tiles of
it. So they are drawn in rounds, each spread over what has not been looked at: the first as many as are wanted, the next
as many as were lost. Which ones depends on the seed and the slide alone, so a run that was killed draws the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.tiles.cutting import Cut
from pipeline.tiles.grid import spread_choice

Tile = TypeVar("Tile", bound=Cut)


def draw(
    cut_rows: Callable[[NDArray[np.int64]], Iterator[Tile]],
    n: int,
    limit: int | None,
    seed: int,
    folder: Path,
    min_sharpness: float = 0.0,
    *,
    in_order: bool = True,
) -> Iterator[Tile]:
    """Of n tiles at most `limit` that are good, in the order of their rows; and those that were lost on the way.

    `cut_rows` cuts the tiles of the given rows, (M,) sorted, and `in_order` says whether it keeps their order. Where it
    does, and there is no limit or there are no more tiles, each is cut and given out in turn. Else the good ones wait
    in an unnamed file in `folder` until all are known.
    """
    if limit is None or n <= limit:
        if in_order:
            yield from cut_rows(np.arange(n))
            return
        limit = n
    rows_left, kept = np.arange(n), list[tuple[Tile, int, int]]()
    with TemporaryFile(dir=folder) as waiting:
        while len(kept) < limit and len(rows_left):
            chosen = spread_choice(len(rows_left), limit - len(kept), seed)
            for tile in cut_rows(rows_left[chosen]):
                if tile.jpeg is None or tile.lost(min_sharpness) is not None:
                    yield tile
                    continue
                kept.append((replace(tile, jpeg=None), waiting.tell(), len(tile.jpeg)))
                waiting.write(tile.jpeg)
            rows_left = np.delete(rows_left, chosen)
        for tile, at, nbytes in sorted(kept, key=lambda one: one[0].row):
            waiting.seek(at)
            yield replace(tile, jpeg=waiting.read(nbytes))
