"""The embeddings of one slide's tiles and where they lie, read from the file that `histill embed`, or the tool itself,
has written.

Shapes: N tiles, D channels. Coordinates are level-0 pixels of top left corners (x, y).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.base.errors import MapError
from pipeline.embed.stamps import read_stamp

SUFFIXES = (".parquet", ".h5")
"""Of files that can be read: `parquet`; `trident`, `clam` and `stamp`."""


@dataclass(frozen=True)
class TileFeatures:
    """N tiles of one slide, `size_l0` level-0 pixels wide and high each."""

    corner_N2: NDArray[np.int64]
    size_l0: tuple[float, float]
    embedding_ND: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.corner_N2)

    def tile_at(self, x_l0: float, y_l0: float) -> int:
        """The row of the tile that a place lies in, the nearest by its middle where several overlap.

        Raises `MapError` where there is none.
        """
        middle_N2 = self.corner_N2 + np.array(self.size_l0) / 2
        away_N2 = np.abs(middle_N2 - (x_l0, y_l0))
        row = int((away_N2**2).sum(axis=1).argmin())
        if (away_N2[row] > np.array(self.size_l0) / 2 + 1).any():
            x, y = middle_N2[row].round().astype(int).tolist()
            fix = f"the middle of the nearest tile is {x},{y} (level-0 pixels)"
            raise MapError("no tile of the slide lies there", where=f"{x_l0:g},{y_l0:g}", fix=fix)
        return row


def read_features(path: Path, mpp_xy: tuple[float, float]) -> TileFeatures:
    """From a file of a slide of `mpp_xy` um per level-0 pixel. Raises `MapError` where it holds no tiles' features."""
    try:
        if path.suffix == ".parquet":
            return _parquet(path)
        if path.suffix == ".h5":
            return _h5(path, mpp_xy)
    except (OSError, KeyError, ValueError, TypeError) as error:
        fix = "make it with: histill embed SLIDE --out DIR --format parquet"
        raise MapError(f"no features of a slide's tiles: {error}", where=str(path), fix=fix) from None
    raise MapError("not a file of features", where=str(path), fix=f"give one that ends in {' or '.join(SUFFIXES)}")


def _parquet(path: Path) -> TileFeatures:
    table = pq.read_table(path, columns=["x", "y", "embedding"])
    about = json.loads((table.schema.metadata or {})[b"about"])
    column = table["embedding"].combine_chunks()
    return TileFeatures(
        np.stack([table[name].to_numpy() for name in ("x", "y")], axis=1),
        (float(about["tile_width_l0"]), float(about["tile_height_l0"])),
        column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), column.type.list_size),
    )


def _h5(path: Path, mpp_xy: tuple[float, float]) -> TileFeatures:
    """TRIDENT's and CLAM's `features`, or STAMP's `feats`, whose coordinates are micrometres."""
    with h5py.File(path, "r") as file:
        coords_N2 = np.asarray(file["coords"])
        if "feats" in file:
            side_um = float(file.attrs["tile_size_um"])
            size_l0 = side_um / mpp_xy[0], side_um / mpp_xy[1]
            corner_N2 = (coords_N2 / np.array(mpp_xy)).round().astype(np.int64)
            return TileFeatures(corner_N2, size_l0, np.asarray(file["feats"], np.float32))
        embedding_ND = np.asarray(file["features"], np.float32)
        side_l0 = file["coords"].attrs.get("patch_size_level0")
    size_l0 = (float(side_l0),) * 2 if side_l0 is not None else _size_of_stamp(path, mpp_xy)
    return TileFeatures(coords_N2.astype(np.int64), size_l0, embedding_ND)


def _size_of_stamp(path: Path, mpp_xy: tuple[float, float]) -> tuple[float, float]:
    """Of CLAM's files, which say nothing of a tile's size: from what `histill embed` was asked for."""
    stamp = read_stamp(path) or {}
    tiling, beside = stamp.get("tiling"), stamp.get("beside")
    if not isinstance(tiling, dict) or (isinstance(beside, dict) and "coords" in beside):
        raise ValueError("it does not say how large a tile is (patch_size_level0)")
    side_um = float(tiling["tile_px"]) * float(tiling["target_mpp"])
    return side_um / mpp_xy[0], side_um / mpp_xy[1]
