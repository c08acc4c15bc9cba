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


def sums_of(cls_chunks: Iterable[NDArray[np.float16]], width: int) -> NDArray[np.float64]:
    """(C, 2, D) of C chunks (M, D)."""
    found = []
    for cls_MD in cls_chunks:
        # numpy takes four times as long for the same numbers.
        wide_MD = torch.tensor(np.ascontiguousarray(cls_MD)).double().numpy()
        found.append((wide_MD.sum(0), np.square(wide_MD).sum(0)))
    return np.array(found, np.float64).reshape(-1, 2, width)


def write_sums(folder: Path) -> None:
    """Of the `cls` that the folder has."""
    cls = MappedArray(folder / "cls")
    starts = range(0, len(cls), SUM_ROWS)
    chunks = (cls.slice(start, min(len(cls), start + SUM_ROWS)).reshape(-1, cls.shape[2]) for start in starts)
    out = io.BytesIO()
    np.save(out, sums_of(chunks, cls.shape[2]))
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
