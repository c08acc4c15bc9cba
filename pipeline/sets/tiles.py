"""Tiles of a data set: one store item a split, beside the slides' own, so that the teacher answers it once.

An item of a set is stored under the slides' tiles recipe, as a folder of images in the slide table would be; so its
tokens fall under the slides' tokens recipe too, with the same frozen calibration, and are found again by the next
student. The item's key is the content of its pictures alone: other labels, groups or masks compute nothing again.

A picture is a tile as it is (readers resize). Pictures with masks are cut into tiles of `tile_px`; the last of a row or
column moves inside, and what a neighbour shows already is ignored in its mask, so that every pixel counts once.
Shapes: H, W of a picture; masks are uint8 class indices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.base.errors import EvaluationError
from pipeline.base.items import TilesItem, TilesManifest
from pipeline.base.store import Ref, Store
from pipeline.sets.listing import Picture
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import MAX_PX, decode_jpeg, encode_jpeg, is_plain_jpeg

VERSION = 1
"""Count up when the same pictures give other tiles."""
MOST_BYTES = 1 << 28
"""Of an HDF5 file's pixels that are held at once."""


@dataclass(frozen=True)
class Place:
    """Where a tile lies in its picture, and the first row and column that no tile before it shows."""

    x: int
    y: int
    fresh_x: int
    fresh_y: int


def places(width: int, height: int, tile_px: int) -> list[Place]:
    """The tiles that cover a picture, row by row; none where it is smaller than a tile."""
    columns, rows = _starts(width, tile_px), _starts(height, tile_px)
    return [Place(x, y, fresh_x, fresh_y) for y, fresh_y in rows for x, fresh_x in columns]


def _starts(length: int, tile_px: int) -> list[tuple[int, int]]:
    """(start, first fresh pixel) along one side: 775 px in tiles of 224 start at 0, 224, 448 and 551 (fresh at 672)."""
    starts = [(start, start) for start in range(0, length - tile_px + 1, tile_px)]
    covered = starts[-1][0] + tile_px if starts else length
    return starts if covered >= length else [*starts, (length - tile_px, covered)]


def evenly(pictures: Sequence[Picture], most: int) -> list[Picture]:
    """At most `most` of them, evenly spread."""
    n = len(pictures)
    return list(pictures) if n <= most else [pictures[i * n // most] for i in range(most)]


def within(pictures: Sequence[Picture], most: int, tile_px: int) -> list[Picture]:
    """Of pictures that are cut, so many, evenly spread, that they give at most `most` tiles; one at least."""
    chosen = evenly(pictures, most)
    while (tiles := sum(_tiles_of(picture, tile_px) for picture in chosen)) > most and len(chosen) > 1:
        chosen = evenly(pictures, max(1, len(chosen) * most // tiles))
    return chosen


def _tiles_of(picture: Picture, tile_px: int) -> int:
    """Tiles that it is cut into; what does not open is left out later, and counted there."""
    try:
        with Image.open(picture.path) as image:
            width, height = image.size
    except (OSError, Image.DecompressionBombError):
        return 0
    if min(width, height) < tile_px or width * height > MAX_PX:
        return 0
    return -(-width // tile_px) * -(-height // tile_px)


def write_set(name: str, split: str, pictures: Sequence[Picture], tiles: TilesManifest, store: Store) -> TilesItem:
    """The item of one split's pictures, made where the store lacks it; n counts the tiles of those that decode.

    Raises `EvaluationError` where none decodes, one with a mask is smaller than a tile, or a file cannot be read.
    """
    side = tiles.tile_px if pictures[0].mask else None
    digest = hashlib.sha256(f"{VERSION} {side}\n".encode())
    for _, data in contents(pictures):
        digest.update(hashlib.sha256(data if isinstance(data, bytes) else data.tobytes()).digest())
    ref = Ref("tiles", tiles.recipe_key, f"set-{digest.hexdigest()[:32]}-{len(pictures)}")
    if not store.has(ref):
        with store.write(ref, tiles.recipe) as folder:
            writer, damaged, reason = TileWriter(folder), 0, ""
            for i, (picture, data) in enumerate(contents(pictures)):
                try:
                    rgb_HWC = decode_jpeg(data) if isinstance(data, bytes) else data
                except ValueError as error:
                    damaged += 1
                    reason = reason or f"{picture.name}: {error}"
                    continue
                _append(writer, i, picture, data, rgb_HWC, side, tiles.jpeg_quality)
            if not len(writer):
                what, fix = f"none of its {len(pictures)} images decodes ({reason})", "open one in a viewer"
                raise EvaluationError(what, where=f"{name}/{split}", fix=fix)
            writer.close(Meta(kind="images", tile_px=tiles.tile_px, dropped={"damaged": damaged}))
    meta = TileReader(store.path(ref)).meta
    return TilesItem(
        id=f"{name}-{split}",
        key=ref.item,
        digest=store.digest(ref),
        n=meta.n,
        kind="images",
        split=split,
        tissue_mm2=None,
        dropped=meta.dropped,
        labels=meta.labels,
    )


def _append(
    writer: TileWriter,
    i: int,
    picture: Picture,
    data: bytes | NDArray[np.uint8],
    rgb_HWC: NDArray[np.uint8],
    side: int | None,
    jpeg_quality: int,
) -> None:
    """One picture's tiles; `source` is its place in the list, since names are no part of the key."""
    if side is None:
        plain = isinstance(data, bytes) and is_plain_jpeg(data)
        writer.append(data if plain and isinstance(data, bytes) else encode_jpeg(rgb_HWC, jpeg_quality), source=str(i))
        return
    height, width = rgb_HWC.shape[:2]
    found = places(width, height, side)
    if not found:
        what = f"is {width} x {height} px, smaller than a tile of {side}"
        raise EvaluationError(what, where=picture.name, fix="set a smaller tiles.tile_px, or leave it out")
    for place in found:
        part_HWC = rgb_HWC[place.y : place.y + side, place.x : place.x + side]
        writer.append(encode_jpeg(part_HWC, jpeg_quality), x_l0=place.x, y_l0=place.y, source=str(i))


def contents(pictures: Sequence[Picture]) -> Iterator[tuple[Picture, bytes | NDArray[np.uint8]]]:
    """Each picture with its file's bytes, or its pixels where it is a row of an HDF5 file.

    Raises `EvaluationError` for a file that cannot be read.
    """
    for (path, is_h5), part in groupby(pictures, lambda picture: (picture.path, picture.index is not None)):
        of_file = list(part)
        try:
            yield from _rows_of(path, of_file) if is_h5 else ((picture, path.read_bytes()) for picture in of_file)
        except OSError as error:
            what, fix = f"cannot be read: {error}", "copy or download it again"
            raise EvaluationError(what, where=str(path), fix=fix) from None


def _rows_of(path: Path, pictures: Sequence[Picture]) -> Iterator[tuple[Picture, NDArray[np.uint8]]]:
    """Rows of a file's `x`, whole chunks at a time: what h5py chunks by itself spreads a row over hundreds of chunks
    of thousands of rows, and each row for itself would have all of them decompressed again."""
    import h5py  # here, since most sets are none

    with h5py.File(path) as file:
        x_NHWC = file["x"]
        step = x_NHWC.chunks[0] if x_NHWC.chunks else 1
        step = max(1, min(step, MOST_BYTES * len(x_NHWC) // max(x_NHWC.nbytes, 1)))
        for block, part in groupby(pictures, lambda picture: int(picture.index or 0) // step):
            rows = np.asarray(x_NHWC[block * step : (block + 1) * step])
            for picture in part:
                yield picture, rows[int(picture.index or 0) - block * step]


def why_left_out(picture: Picture) -> str:
    """The picture's name, and why it does not decode."""
    try:
        for _, data in contents([picture]):
            if isinstance(data, bytes):
                decode_jpeg(data)
    except (ValueError, EvaluationError) as error:
        return f"{picture.name}: {error}"
    return picture.name


def pictures_of_tiles(folder: Path, pictures: Sequence[Picture]) -> list[Picture]:
    """The picture that each tile of an item came from."""
    return [pictures[int(source)] for source in TileReader(folder).table["source"].to_pylist()]
