"""Slides made on the spot: tiled TIFFs that OpenSlide opens, in the kinds that scanners write, and damage to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

KINDS = {
    "jpeg-ycbcr-420": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)},
    "jpeg-ycbcr-444": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (1, 1)},
    "jpeg-finest": {
        "compression": "jpeg",
        "compressionargs": {"level": 100},
        "photometric": "ycbcr",
        "subsampling": (1, 1),
    },
    "jpeg-rgb": {"compression": "jpeg", "photometric": "rgb"},
    "deflate": {"compression": "deflate", "photometric": "rgb"},
    "plain": {"photometric": "rgb"},
}


def blobs(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Coloured blobs with fine grain, (height, width, 3): nothing is the same anywhere else."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 250, (height // 16 + 2, width // 16 + 2, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(smooth + rng.normal(0, 6, (height, width, 1)), 0, 255).astype(np.uint8)


def tissue_picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """(height, width, 3): pale glass all round, and a stained, textured ellipse over the middle."""
    return _tissue_picture(width, height, seed).copy()


@lru_cache(maxsize=32)
def _tissue_picture(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 12 + 1, width // 12 + 1)).astype(np.uint8))
    texture_HW1 = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))[..., None] / 255
    stain_HWC = (170, 80, 160) + texture_HW1 * (60, 80, 40) + rng.integers(-12, 13, (height, width, 1))
    y_H1, x_1W = np.ogrid[:height, :width]
    inside_HW = ((x_1W - width / 2) / (0.42 * width)) ** 2 + ((y_H1 - height / 2) / (0.42 * height)) ** 2 <= 1
    picture_HWC = np.where(inside_HW[..., None], stain_HWC, 243)
    return np.clip(picture_HWC, 0, 255).astype(np.uint8)


def make_slide(
    path: Path,
    rgb_HWC: NDArray[np.uint8],
    mpp: tuple[float, float] | None = (0.5, 0.5),
    level_sizes: Sequence[tuple[int, int]] = (),
    kind: str = "deflate",
    tile_px: int = 128,
) -> Path:
    """Level 0 and reduced levels of the given (width, height); with resolution tags, unless `mpp` is None."""
    level = Image.fromarray(rgb_HWC)
    tags = {} if mpp is None else {"resolution": (1e4 / mpp[0], 1e4 / mpp[1]), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for i, size in enumerate([level.size, *level_sizes]):
            tiff.write(
                np.asarray(level.resize(size, Image.Resampling.BOX)),
                tile=(tile_px, tile_px),
                subfiletype=int(i > 0),
                metadata=None,
                **tags,
                **KINDS[kind],
            )
    return path


def make_scn(path: Path, rgb_HWC: NDArray[np.uint8], whole_px: tuple[int, int], at: tuple[int, int]) -> Path:
    """A Leica SCN of 0.5 um/px: `rgb_HWC` was scanned at (x, y) `at` of a glass of `whole_px`; so OpenSlide has it."""
    height, width = rgb_HWC.shape[:2]
    nm = 500
    description = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:0">'
        f'<collection name="made" uuid="urn:uuid:1" sizeX="{whole_px[0] * nm}" sizeY="{whole_px[1] * nm}"><barcode/>'
        '<image name="main" uuid="urn:uuid:2"><creationDate>2026-01-01T00:00:00Z</creationDate>'
        f'<device model="made" version="1"/><pixels sizeX="{width}" sizeY="{height}">'
        f'<dimension sizeX="{width}" sizeY="{height}" r="0" ifd="0"/></pixels>'
        f'<view sizeX="{width * nm}" sizeY="{height * nm}" offsetX="{at[0] * nm}" offsetY="{at[1] * nm}"/>'
        "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>"
        "<numericalAperture>0.5</numericalAperture><illuminationSource>brightfield</illuminationSource>"
        "</illuminationSettings></scanSettings></image></collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            rgb_HWC,
            tile=(128, 128),
            description=description,
            metadata=None,
            resolution=(20000, 20000),
            resolutionunit="CENTIMETER",
            **KINDS["jpeg-ycbcr-420"],
        )
    return path


def spans(path: Path, page: int = 0) -> list[tuple[int, int]]:
    """Offset and length in the file of each tile of a page."""
    with tifffile.TiffFile(path) as tiff:
        return list(zip(tiff.pages[page].dataoffsets, tiff.pages[page].databytecounts, strict=True))


def put(path: Path, offset: int, data: bytes) -> None:
    """Overwrite a piece of a file."""
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def overwrite(path: Path, tiles: Sequence[int], data: bytes | None = None, page: int = 0) -> None:
    """Put `data` (None = zeros) over the bytes of some tiles of a page."""
    found = spans(path, page)
    for offset, nbytes in (found[i] for i in tiles):
        put(path, offset, (data or bytes(nbytes))[:nbytes])


def set_tag(path: Path, page: int, **tags: int) -> None:
    """Overwrite some tags of a page, so that it lies."""
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for name, value in tags.items():
            tiff.pages[page].tags[name].overwrite(value)
