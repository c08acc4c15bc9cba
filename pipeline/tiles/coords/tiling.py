"""A slide's tiling in a file, as TRIDENT and CLAM keep it: HDF5 with one data set, `coords`, (N, 2) level-0 x and y.

What the numbers mean is in the data set's attributes:

    TRIDENT  patch_size, patch_size_level0, level0_magnification, target_magnification, overlap, name, savetodir,
             level0_width, level0_height
    CLAM     patch_size (pixels of patch_level), patch_level, downsample, downsampled_level_dim, level_dim, name,
             save_path; some of its descendants also custom_downsample

Read here is what both agree on: corners, and a tile's side in level-0 pixels. The file may hold more (features): it is
not looked at.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.base.errors import SlideRefused
from pipeline.base.types import Array
from pipeline.cluster.refusals import of_others
from pipeline.tiles.grid import MAX_TILES

UM_TIMES_POWER = 10.0
"""Magnification as both tools count it: 20x is 0.5 um/px."""
WHOLE_WITHIN = 0.0025
"""A magnification this near to a whole number is written as it: 20.04 is 20."""


@dataclass(frozen=True)
class Tiling:
    """Corners in level-0 pixels, (N, 2) int64, in the file's order; `side_l0` of a tile, level-0 pixels."""

    corner_N2: NDArray[np.int64]
    side_l0: float


def read_tiling(path: Path, levels: Sequence[tuple[int, int, float]]) -> Tiling:
    """The tiling in a file, for a slide of `levels` (width, height, downsample).

    Raises `SlideRefused` where the file cannot be read, does not say how large a tile is, or is of another slide.
    """
    import h5py  # here, since most runs have no use for it

    with of_others(path, "its coordinates", functools.partial(_refused, path)), h5py.File(path, "r") as file:
        n = file["coords"].shape[0] if file["coords"].shape else 0
        if n > MAX_TILES:
            raise _refused(path, f"has {n} tiles, and a worker's memory is kept for {MAX_TILES}")
        # Some of their descendants keep them with the file.
        corner_N2, attributes = np.asarray(file["coords"]), dict(file.attrs) | dict(file["coords"].attrs)
    if corner_N2.ndim != 2 or corner_N2.shape[1] != 2 or corner_N2.dtype.kind not in "iuf" or not len(corner_N2):
        raise _refused(path, f"holds no tile: coords is {corner_N2.dtype}{list(corner_N2.shape)}, not (N, 2) numbers")
    try:
        side_l0, size = side_of(attributes, levels), slide_size_of(attributes)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise _refused(path, f"does not say how large a tile is ({error})") from None
    if size is not None and size != levels[0][:2]:
        what = f"is of a slide of {size[0]} x {size[1]} px, and this one has {levels[0][0]} x {levels[0][1]}"
        raise _refused(path, what)
    if not (np.isfinite(side_l0) and side_l0 >= 1):
        raise _refused(path, f"says that a tile is {side_l0:g} px wide")
    if not np.isfinite(corner_N2).all():
        raise _refused(path, "has a coordinate that is no number")
    return Tiling(np.rint(corner_N2).astype(np.int64), side_l0)


def write_tiling(path: Path | BinaryIO, corner_N2: NDArray[np.int64], attributes: Mapping[str, ArrayLike]) -> None:
    """Write a tiling with the given attributes: `coords` int64, its chunks and limits as both tools write them."""
    import h5py

    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        coords = file.create_dataset("coords", data=corner_N2.astype(np.int64), maxshape=(None, 2), chunks=(1024, 2))
        coords.attrs.update(dict(attributes))


def trident_attributes(
    tile_px: int, side_l0: float, mpp: float, overlap_px: int, slide_l0: tuple[int, int]
) -> dict[str, ArrayLike]:
    """TRIDENT reads `patch_size` * `level0_magnification` / `target_magnification` pixels of level 0 and resizes them.

    So the ratio of the two is the true scale, and not that of the magnifications' names: a slide of 0.293 um/px is
    34.13x here, since as "40x" it would be read 17 % too large.
    """
    return {
        "patch_size": tile_px,
        "patch_size_level0": round(side_l0),
        "level0_magnification": power(mpp),
        "target_magnification": power(mpp * side_l0 / tile_px),
        "overlap": overlap_px,
        "level0_width": slide_l0[0],
        "level0_height": slide_l0[1],
    }


def clam_attributes(side_l0: float, level: int, size: tuple[int, int, float]) -> dict[str, ArrayLike]:
    """CLAM reads `patch_size` pixels of `patch_level`, so where tiles are rescaled that is not `tile_px`.

    `size` is the level's width, height and downsample.
    """
    width, height, downsample = size
    level_dim = np.array([width, height], np.int64)
    return {
        "patch_size": round(side_l0 / downsample),
        "patch_level": level,
        "downsample": np.array([downsample, downsample]),
        "downsampled_level_dim": level_dim,
        "level_dim": level_dim,
    }


def trident_folder(target_mpp: float, tile_px: int, overlap_px: int) -> str:
    """What TRIDENT calls the folder of a tiling in its job's folder."""
    return f"{power(target_mpp):g}x_{tile_px}px_{overlap_px}px_overlap"


def power(mpp: float) -> float | int:
    """The magnification of a resolution, as TRIDENT and CLAM count it; whole where it is nearly so."""
    found = UM_TIMES_POWER / mpp
    return round(found) if abs(round(found) / found - 1) <= WHOLE_WITHIN else found


def side_of(attributes: Mapping[str, Array], levels: Sequence[tuple[int, int, float]] = ()) -> float:
    """A tile's side in level-0 pixels. Raises `KeyError` where the attributes do not say.

    `levels` are needed where they are CLAM's without a downsample: `IndexError` without.
    """
    if "patch_size_level0" in attributes:
        return float(attributes["patch_size_level0"])
    size = float(attributes["patch_size"])
    if "level0_magnification" in attributes:
        return size * float(attributes["level0_magnification"]) / float(attributes["target_magnification"])
    level = int(attributes["patch_level"])
    downsample = np.ravel(attributes["downsample"] if "downsample" in attributes else levels[level][2]).astype(float)
    return size * float(downsample[0]) * float(attributes.get("custom_downsample", 1))


def slide_size_of(attributes: Mapping[str, Array]) -> tuple[int, int] | None:
    """Width and height of level 0 by the attributes; None where they do not say, or say it of another level."""
    if "level0_width" in attributes:
        return int(attributes["level0_width"]), int(attributes["level0_height"])
    if "level_dim" in attributes and int(attributes["patch_level"]) == 0:
        width, height = np.ravel(attributes["level_dim"])[:2]
        return int(width), int(height)
    return None


def _refused(path: Path, what: str) -> SlideRefused:
    fix = "TRIDENT's <slide>_patches.h5 or CLAM's patches/<slide>.h5 of this slide, or an empty coords cell"
    return SlideRefused(f"its coordinates {path.name}: the file {what}", fix=fix)
