"""A folder of images is its own tiles: no grid, no mask, class folders as labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SlideRefused
from pipeline.params import TilesParams
from pipeline.slides.images import list_images
from pipeline.tiles.grid import spread_choice
from pipeline.tiles.pictures import write_mosaics
from pipeline.tiles.pixels import decode_jpeg, encode_jpeg, is_plain_jpeg
from pipeline.tiles.quality import sharpness, stains
from pipeline.tiles.writer import TileWriter


def write_folder_tiles(source: Path, folder: Path, params: TilesParams) -> None:
    """Store the images below `source` as tiles in `folder`, in the order of their paths.

    A plain JPEG is kept byte for byte, anything else is encoded; sizes stay as they are (readers resize). Images that
    do not decode are left out and counted as `damaged`; somebody has chosen the others, so no score drops one. Raises
    `SlideRefused` where none is left.
    """
    images = list_images(source)
    chosen = [images[i] for i in spread_choice(len(images), params.max_tiles_per_slide, params.seed)]
    writer = TileWriter(folder)
    for name, label in chosen:
        try:
            data, rgb_HWC = _as_jpeg(source / name, params.jpeg_quality)
        except (OSError, ValueError):
            continue
        # Every eighth pixel is a fair sample of an image's stain.
        haematoxylin, eosin = stains(rgb_HWC[::8, ::8]).mean((0, 1)).tolist()
        writer.append(data, sharpness=sharpness(rgb_HWC), stain=(haematoxylin, eosin), label=label, source=name)
    damaged = len(chosen) - len(writer)
    if not len(writer):
        fix = "open one in a viewer; are they images?"
        raise SlideRefused(f"none of its {len(chosen)} images decodes", where=source.name, fix=fix)
    dropped = {"damaged": damaged, "limit": len(images) - len(chosen)}
    writer.close({"kind": "folder", "tile_px": params.tile_px, "tissue_mm2": None, "dropped": dropped})
    write_mosaics(folder, thumb=True)


def _as_jpeg(path: Path, quality: int) -> tuple[bytes, NDArray[np.uint8]]:
    """The image as a JPEG file, and its pixels: what cannot be decoded later must not be stored."""
    data = path.read_bytes()
    rgb_HWC = decode_jpeg(data)
    return (data if is_plain_jpeg(data) else encode_jpeg(rgb_HWC, quality)), rgb_HWC
