"""Tiled TIFFs made on the spot, in the kinds that scanners and converters write, and damage to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

KINDS = {
    "jpeg-ycbcr-420": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)},
    "jpeg-ycbcr-444": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (1, 1)},
    "jpeg-rgb": {"compression": "jpeg", "photometric": "rgb"},
    "deflate": {"compression": "deflate", "photometric": "rgb"},
    "plain": {"photometric": "rgb"},
}


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Coloured blobs with fine grain, (height, width, 3) uint8: nothing is the same anywhere else."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 250, (height // 16 + 2, width // 16 + 2, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(smooth + rng.normal(0, 6, (height, width, 1)), 0, 255).astype(np.uint8)


def make_tiff(
    path: Path,
    rgb_HWC: np.ndarray,
    kind: str,
    level_sizes: Sequence[tuple[int, int]] = (),
    mpp: float = 0.5,
    tile_px: int = 64,
) -> Path:
    """A generic tiled TIFF: level 0 and reduced ones of the given (width, height)."""
    level = Image.fromarray(rgb_HWC)
    with tifffile.TiffWriter(path) as tiff:
        for i, size in enumerate([level.size, *level_sizes]):
            tiff.write(
                np.asarray(level.resize(size, Image.Resampling.BOX)),
                tile=(tile_px, tile_px),
                subfiletype=int(i > 0),
                resolution=(1e4 / mpp, 1e4 / mpp),
                resolutionunit="CENTIMETER",
                metadata=None,
                **KINDS[kind],
            )
    return path


def overwrite(path: Path, tiles: Sequence[int], data: bytes | None = None, page: int = 0) -> None:
    """Put `data` (None = zeros) over the bytes of some tiles of a TIFF's page."""
    with tifffile.TiffFile(path) as tiff:
        spans = [(tiff.pages[page].dataoffsets[i], tiff.pages[page].databytecounts[i]) for i in tiles]
    with open(path, "r+b") as file:
        for offset, nbytes in spans:
            file.seek(offset)
            file.write((data or bytes(nbytes))[:nbytes])
