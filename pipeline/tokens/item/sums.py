"""Sums of a slide's CLS, kept beside them (`sums.npy`), so that statistics of all targets read no target.

(C, 2, D) float64: of each run of `SUM_ROWS` tiles, all views together, the sum and the sum of squares of each channel.
Not one sum a slide: added up run after run they come to the same bits, whether they were kept or are computed again.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.base.arrays import MappedArray
from pipeline.base.errors import CorruptItem

SUMS_FILE = "sums.npy"
SUM_ROWS = 4096
_CACHED_ROWS = 256


def sums_of(cls_chunks: Iterable[NDArray[np.float16]], width: int) -> NDArray[np.float64]:
    """(C, 2, D) of C chunks (M, D)."""
    found = []
    for cls_MD in cls_chunks:
        found.append(_sums(np.ascontiguousarray(cls_MD)))
    return np.array(found, np.float64).reshape(-1, 2, width)


def _sums(cls_MD: NDArray[np.float16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each channel the sum and the sum of squares: row after row, in parts that stay in a core's cache.

    The sum so far is a part's first row, so that the same numbers are added in the same order as by `sum(0)` of all.
    """
    part = np.empty((_CACHED_ROWS + 1, cls_MD.shape[1]))
    wide = torch.from_numpy(part)
    first, sums, squares = 1, part[0], part[0]
    for start in range(0, len(cls_MD), _CACHED_ROWS):
        n = min(_CACHED_ROWS, len(cls_MD) - start)
        own = part[1 : n + 1]
        # By way of float32, which is exact: from float16 numpy takes ten times as long, and torch's one step twice.
        given = cls_MD[start : start + n]
        wide[1 : n + 1].copy_((torch.from_numpy(given) if given.flags.writeable else torch.tensor(given)).float())
        part[0] = sums
        sums = part[first : n + 1].sum(0)
        np.square(own, out=own)
        part[0] = squares
        squares = part[first : n + 1].sum(0)
        first = 0
    return sums, squares


def write_sums(folder: Path, cls_NVD: NDArray[np.float16] | None = None) -> None:
    """Of the `cls` that the folder has; whoever has all of it at hand gives it."""
    n, _, width = cls_NVD.shape if cls_NVD is not None else (cls := MappedArray(folder / "cls")).shape
    spans = ((start, min(n, start + SUM_ROWS)) for start in range(0, n, SUM_ROWS))
    chunks = (cls.slice(*span) if cls_NVD is None else cls_NVD[slice(*span)] for span in spans)
    out = io.BytesIO()
    np.save(out, sums_of((chunk.reshape(-1, width) for chunk in chunks), width))
    # Synced with the item that it is part of.
    part = folder / f".{SUMS_FILE}"
    part.write_bytes(out.getvalue())
    part.replace(folder / SUMS_FILE)


def read_sums(folder: Path, n: int, width: int) -> NDArray[np.float64] | None:
    """Those of an item of n tiles; None where it has none. Raises `CorruptItem` where they are not its own."""
    file = folder / SUMS_FILE
    try:
        found = np.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        raise CorruptItem(f"its sums cannot be read: {error}", where=str(file), fix="histill store verify") from None
    shape = (-(-n // SUM_ROWS), 2, width)
    if found.shape != shape or found.dtype != np.float64:
        what = f"its sums are {found.dtype}{found.shape}, not float64{shape}"
        raise CorruptItem(what, where=str(file), fix="histill store verify")
    return np.asarray(found)
