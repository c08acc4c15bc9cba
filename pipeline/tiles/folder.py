"""A folder of images is its own tiles: no grid, no mask, class folders as labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import SlideRefused
from pipeline.base.names import printable
from pipeline.params.tiles import TilesParams
from pipeline.slides.images import list_images
from pipeline.slides.walk import Walked
from pipeline.tiles.cutting import Cut
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.writer import Scores, TileWriter
from pipeline.tiles.pictures import write_mosaics
from pipeline.tiles.pixels import decode_jpeg, encode_jpeg, is_plain_jpeg
from pipeline.tiles.quota import draw
from pipeline.tiles.scores import sharpness
from pipeline.tiles.stains import stains


def write_folder_tiles(source: Path, folder: Path, params: TilesParams) -> None:
    """Store the images below `source` as tiles in `folder`, in the order of their paths.

    A plain JPEG is kept byte for byte, anything else is encoded; sizes stay as they are (readers resize). Images that
    do not decode are left out and counted as `damaged`; somebody has chosen the others, so no score drops one. What is
    left out is named in the item. Raises `SlideRefused` where none is left, `OSError` where one cannot be
    read.
    """
    walked = Walked()
    images, writer, damaged = list_images(source, walked), TileWriter(folder), 0
    left_out = [(path.removeprefix(f"{printable(source)}/"), reason) for path, reason in walked.left_out]

    def read(row_M: NDArray[np.int64]) -> Iterator[_Image]:
        return (_image(int(row), source / images[row][0], params.jpeg_quality) for row in row_M)

    for image in draw(read, len(images), params.max_tiles_per_slide, params.seed, folder):
        if image.jpeg is None:
            damaged += 1
            left_out.append((images[image.row][0], f"damaged, or no tile: {image.why}"))
            continue
        name, label = images[image.row]
        writer.append(image.jpeg, scores=Scores(1.0, image.sharpness, *image.stain), label=label, source=name)
    if not len(writer):
        fix = "open one in a viewer; are they images?"
        raise SlideRefused(f"none of its {len(images)} images decodes", where=source.name, fix=fix)
    dropped = {"damaged": damaged, "limit": len(images) - len(writer) - damaged}
    writer.close(Meta(kind="folder", tile_px=params.tile_px, dropped=dropped, left_out=tuple(sorted(left_out))))
    write_mosaics(folder, thumb=True)


@dataclass(frozen=True)
class _Image(Cut):
    """An image of the folder, and its stain; why it is none."""

    stain: tuple[float, float] = (0.0, 0.0)
    why: str = ""


def _image(row: int, path: Path, jpeg_quality: int) -> _Image:
    """The image as a JPEG file, and its scores; without, where it cannot be decoded."""
    data = path.read_bytes()
    try:
        rgb_HWC = decode_jpeg(data)
    except ValueError as error:
        return _Image(row, None, why=str(error))
    # Every eighth pixel is a fair sample of an image's stain.
    haematoxylin, eosin = stains(rgb_HWC[::8, ::8]).mean((0, 1)).tolist()
    jpeg = data if is_plain_jpeg(data) else encode_jpeg(rgb_HWC, jpeg_quality)
    return _Image(row, jpeg, sharpness(rgb_HWC), stain=(haematoxylin, eosin))
