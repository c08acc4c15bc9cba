"""What a tile is, by content: the first 16 bytes of the sha256 of its JPEG file as the store keeps it.

Of the file and not of its pixels, since all that is answered to a tile depends on it through these bytes alone, and
they cost no decoding: equal files are equal pixels, and two files of equal pixels are merely answered twice.

Shapes: N tiles, W tiles that are looked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DIGEST_NBYTES = 16
_TYPE = np.dtype([("high", ">u8"), ("low", ">u8")])
Digests = NDArray[np.void]
"""(N,) of two big-endian 64-bit halves, `high` and `low`: numpy neither sorts nor compares 16 plain bytes."""
NOWHERE = -1


def digest_of(jpeg: bytes) -> bytes:
    """Of one tile's JPEG file."""
    return hashlib.sha256(jpeg).digest()[:DIGEST_NBYTES]


def as_digests(data: bytes | memoryview) -> Digests:
    """Digests that lie end to end."""
    return np.frombuffer(data, _TYPE)


def hex_of(digest_N: Digests) -> list[str]:
    """Each as 32 hex digits."""
    text = digest_N.tobytes().hex()
    return [text[i : i + 2 * DIGEST_NBYTES] for i in range(0, len(text), 2 * DIGEST_NBYTES)]


@dataclass(frozen=True)
class Found:
    """Where each of W tiles was found: which of the `sources`, `NOWHERE` for none, and in which row of it."""

    sources: tuple[str, ...]
    source_W: NDArray[np.int32]
    row_W: NDArray[np.int64]

    @property
    def there(self) -> NDArray[np.bool_]:
        """Which of them were found, (W,)."""
        there_W: NDArray[np.bool_] = self.source_W != NOWHERE
        return there_W

    def take(self, places: slice) -> Found:
        """Those at these places."""
        return Found(self.sources, self.source_W[places], self.row_W[places])


def look_for(wanted_W: Digests, among: Iterable[tuple[str, Digests]]) -> Found:
    """Where the tiles are among items (name, digests); the first that has one is taken. Linear in all tiles together.

    Of the items no more than one is looked at a time.
    """
    halves = wanted_W["high"].astype(np.uint64), wanted_W["low"].astype(np.uint64)
    order_W = np.lexsort((halves[1], halves[0]))
    high_W, low_W = halves[0][order_W], halves[1][order_W]
    # Tiles that are wanted twice are found once, and told to both.
    first_W = np.r_[True, (np.diff(high_W) != 0) | (np.diff(low_W) != 0)][: len(high_W)]
    high_U, low_U = high_W[first_W], low_W[first_W]
    source_U, row_U = np.full(len(high_U), NOWHERE, np.int32), np.zeros(len(high_U), np.int64)
    names: list[str] = []
    for name, digest_N in among:
        if not len(high_U):
            break
        at_N = np.searchsorted(high_U, digest_N["high"].astype(np.uint64)).clip(max=len(high_U) - 1)
        same_N = (high_U[at_N] == digest_N["high"]) & (low_U[at_N] == digest_N["low"]) & (source_U[at_N] == NOWHERE)
        if same_N.any():
            source_U[at_N[same_N]], row_U[at_N[same_N]] = len(names), np.flatnonzero(same_N)
            names.append(name)
    of_W = np.empty(len(wanted_W), np.int64)
    of_W[order_W] = np.cumsum(first_W) - 1
    return Found(tuple(names), source_U[of_W], row_U[of_W])
