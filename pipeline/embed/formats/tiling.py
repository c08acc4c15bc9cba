"""The tiling that a feature file is of, written beside it for tools that keep the two apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
from numpy.typing import ArrayLike

from pipeline.base.errors import SlideRefused
from pipeline.embed.features import Features
from pipeline.embed.stamps import KEY, read_stamp
from pipeline.tiles.coords.tiling import write_tiling

SQUARE_WITHIN = 0.01
"""By how much a tile's sides may differ in level-0 pixels, of which the tool knows one; scanners' axes differ less."""


def write_own(features: Features, attributes: Mapping[str, ArrayLike], partial: Path, final: Path) -> None:
    """Raises `SlideRefused` where somebody else's is in its place: features of ours are not of that one."""
    if final.exists() and read_stamp(final) is None:
        fix = "take it: --coords with that folder; or give another --out"
        raise SlideRefused(f"another tiling of it is there: {final}", where=features.slide.name, fix=fix)
    write_tiling(partial, features.corner_N2, attributes)
    with h5py.File(partial, "r+") as opened:
        opened.attrs[KEY] = features.stamp_text


def require_square(features: Features) -> None:
    """Raises `SlideRefused` where a tile is an oblong of level-0 pixels, which the tool cannot say."""
    width, height = features.geometry.size_l0
    if abs(width / height - 1) > SQUARE_WITHIN:
        what = f"its pixels are not square: a tile is {width:.1f} x {height:.1f} of them, which this format cannot say"
        raise SlideRefused(what, where=features.slide.name, fix="--format wsidata, h5ad, zarr or parquet can")
