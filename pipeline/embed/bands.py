"""In which order the tiles of a slide are read, and in which portions: pure geometry, no I/O.

Whoever reads a portion decodes the slide's own tiles that it touches, and those on its border are decoded again by the
neighbour. So portions are whole rows of tiles, large at first and smaller towards the end of the slide, where nobody
should wait long for the last one. Where rows are so long that several readers could not keep the decoded tiles of
theirs in memory, the slide is taken in columns of blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.tiles.grid import Geometry

LEAST = 48
"""Tiles of a portion: three passes of a model at 16 a pass."""
_OWN_PX = 512
"""Of a slide's own tiles, in pixels of the level: as much as this is decoded above and below a row."""


def order(
    geometry: Geometry, x_l0_N: NDArray[np.int64], y_l0_N: NDArray[np.int64], cache_nbytes: int
) -> NDArray[np.int64]:
    """The N rows in raster order, block after block, (N,); a block's row of decoded tiles fits in `cache_nbytes`."""
    deep_px = geometry.size_px[1] + 2 * _OWN_PX
    width_l0 = max(geometry.size_l0[0], cache_nbytes / (3 * deep_px) * geometry.downsample)
    block_N = ((x_l0_N - x_l0_N.min()) // width_l0).astype(np.int64)
    return np.lexsort((x_l0_N, y_l0_N, block_N))


def bands(order_N: NDArray[np.int64], y_l0_N: NDArray[np.int64], readers: int) -> Iterator[NDArray[np.int64]]:
    """The rows in portions for so many readers, each ending where a row of tiles does."""
    start, n = 0, len(order_N)
    new_N = np.append(np.flatnonzero(np.diff(y_l0_N[order_N])) + 1, n)
    while start < n:
        end = start + max(LEAST, (n - start) // (2 * readers))
        end = int(new_N[np.searchsorted(new_N, min(end, n))])
        yield order_N[start:end]
        start = end
