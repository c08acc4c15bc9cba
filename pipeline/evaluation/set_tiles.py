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
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import EvaluationError
from pipeline.evaluation.dense_probe import IGNORE
from pipeline.evaluation.image_sets import Picture
from pipeline.manifest import Item, Manifest
from pipeline.store import Ref, Store
from pipeline.tiles.pixels import decode_jpeg, encode_jpeg, is_plain_jpeg
from pipeline.tiles.reader import TileReader
from pipeline.tiles.writer import TileWriter

VERSION = 1
"""Count up when the same pictures give other tiles."""


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


def write_set(name: str, split: str, pictures: Sequence[Picture], tiles: Manifest, store: Store) -> Item:
    """The item of one split's pictures, made where the store lacks it; n counts the tiles of those that decode.

    Raises `EvaluationError` where none decodes, or one with a mask is smaller than a tile.
    """
    side = int(tiles.recipe["tile_px"]) if pictures[0].mask else None
    digest = hashlib.sha256(f"{VERSION} {side}\n".encode())
    for _, data in contents(pictures):
        digest.update(hashlib.sha256(data if isinstance(data, bytes) else data.tobytes()).digest())
    ref = Ref("tiles", tiles.recipe_key, f"set-{digest.hexdigest()[:32]}-{len(pictures)}")
    if not store.has(ref):
        with store.write(ref, tiles.recipe) as folder:
            writer, damaged = TileWriter(folder), 0
            for i, (picture, data) in enumerate(contents(pictures)):
                try:
                    rgb_HWC = decode_jpeg(data) if isinstance(data, bytes) else data
                except ValueError:
                    damaged += 1
                    continue
                _append(writer, i, picture, data, rgb_HWC, side, int(tiles.recipe["jpeg_quality"]))
            if not len(writer):
                fix = "open one in a viewer; are they images?"
                raise EvaluationError(f"none of its {len(pictures)} images decodes", where=f"{name}/{split}", fix=fix)
            meta = {"kind": "images", "tile_px": tiles.recipe["tile_px"], "tissue_mm2": None}
            writer.close(meta | {"dropped": {"damaged": damaged}})
    info = {"split": split, "label": None, "patient": None, "kind": "images"}
    n = len(TileReader(store.path(ref)))
    return Item(id=f"{name}-{split}", key=ref.item, digest=store.digest(ref), n=n, info=info)


def _append(
    writer: TileWriter,
    i: int,
    picture: Picture,
    data: bytes | NDArray[np.uint8],
    rgb_HWC: NDArray[np.uint8],
    side: int | None,
    quality: int,
) -> None:
    """One picture's tiles; `source` is its place in the list, since names are no part of the key."""
    if side is None:
        plain = isinstance(data, bytes) and is_plain_jpeg(data)
        writer.append(data if plain and isinstance(data, bytes) else encode_jpeg(rgb_HWC, quality), source=str(i))
        return
    height, width = rgb_HWC.shape[:2]
    found = places(width, height, side)
    if not found:
        what = f"is {width} x {height} px, smaller than a tile of {side}"
        raise EvaluationError(what, where=picture.name, fix="set a smaller tiles.tile_px, or leave it out")
    for place in found:
        part_HWC = rgb_HWC[place.y : place.y + side, place.x : place.x + side]
        writer.append(encode_jpeg(part_HWC, quality), x_l0=place.x, y_l0=place.y, source=str(i))


def contents(pictures: Sequence[Picture]) -> Iterator[tuple[Picture, bytes | NDArray[np.uint8]]]:
    """Each picture with its file's bytes, or its pixels where it is a row of an HDF5 file (opened once)."""
    open_path: Path | None = None
    file: h5py.File | None = None
    try:
        for picture in pictures:
            if picture.index is None:
                yield picture, picture.path.read_bytes()
                continue
            if picture.path != open_path:
                if file is not None:
                    file.close()
                file, open_path = h5py.File(picture.path), picture.path
            yield picture, np.asarray(file["x"][picture.index])  # type: ignore[index]
    finally:
        if file is not None:
            file.close()


def pictures_of_tiles(folder: Path, pictures: Sequence[Picture]) -> list[Picture]:
    """The picture that each tile of an item came from."""
    return [pictures[int(source)] for source in TileReader(folder).table["source"].to_pylist()]


class Masks:
    """Class indices of a set's pixels; the classes are the values that its train masks have, in order."""

    def __init__(self, train: Sequence[Picture]) -> None:
        self.values = sorted(mask_values(train))
        if not 2 <= len(self.values) <= 64:
            what = f"the train masks have {len(self.values)} values ({', '.join(map(str, self.values[:4]))} …)"
            raise EvaluationError(what, where=str(train[0].mask), fix="two to 64 classes, one value each")
        self._index = np.full(256, IGNORE, np.uint8)
        self._index[self.values] = np.arange(len(self.values))

    def of_tiles(self, folder: Path, pictures: Sequence[Picture], tile_px: int) -> NDArray[np.uint8]:
        """The mask of every tile of an item, (N, H, W) class indices; `IGNORE` for other values and seen pixels."""
        table = TileReader(folder).table
        sources, xs, ys = (table[name].to_pylist() for name in ("source", "x_l0", "y_l0"))
        mask_NHW = np.empty((len(sources), tile_px, tile_px), np.uint8)
        known: dict[int, tuple[NDArray[np.uint8], dict[tuple[int, int], Place]]] = {}
        for row, (source, x, y) in enumerate(zip(sources, xs, ys, strict=True)):
            i = int(source)
            if i not in known:
                mask_HW = self._index[_mask(pictures[i])]
                grid = {(p.x, p.y): p for p in places(mask_HW.shape[1], mask_HW.shape[0], tile_px)}
                known = {i: (mask_HW, grid)}
            mask_HW, grid = known[i]
            place = grid[x, y]
            mask_NHW[row] = mask_HW[y : y + tile_px, x : x + tile_px]
            mask_NHW[row, : place.fresh_y - y] = IGNORE
            mask_NHW[row, :, : place.fresh_x - x] = IGNORE
        return mask_NHW


def mask_values(pictures: Sequence[Picture]) -> set[int]:
    """The values that the masks of these pictures have. Raises `EvaluationError` for a mask that cannot be read."""
    return {value for picture in pictures for value in np.unique(_mask(picture)).tolist()}


def check_masks(pictures: Sequence[Picture]) -> None:
    """Open every mask, before anything is computed from them. Raises `EvaluationError` as `_opened` does."""
    for picture in pictures:
        _opened(picture).close()


def _mask(picture: Picture) -> NDArray[np.uint8]:
    """The values of a picture's mask, (H, W). Raises `EvaluationError` as `_opened` does, and where it is damaged."""
    with _opened(picture) as mask:
        try:
            value_HW: NDArray[np.uint8] = np.asarray(mask.convert("L") if mask.mode == "1" else mask).astype(np.uint8)
        except OSError as error:
            raise _unreadable(picture, error) from None
    return value_HW


def _opened(picture: Picture) -> Image.Image:
    """A picture's mask. Raises `EvaluationError` for no image, another size than its picture, or colours."""
    assert picture.mask is not None
    try:
        mask = Image.open(picture.mask)
    except OSError as error:
        raise _unreadable(picture, error) from None
    try:
        with Image.open(picture.path) as image:
            size = image.size
    except OSError:
        # A picture that does not open is left out, with its mask, and counted.
        size = mask.size
    what, fix = "", ""
    if mask.size != size:
        what = f"the mask is {mask.size[0]} x {mask.size[1]} px, its image {size[0]} x {size[1]}"
        fix = "export it at the image's own size"
    elif mask.mode not in ("L", "P", "1"):
        what = f"the mask is {mask.mode}, not class indices"
        fix = "one channel of 8 bits, the class of each pixel as its value"
    if what:
        mask.close()
        raise EvaluationError(what, where=str(picture.mask), fix=fix)
    return mask


def _unreadable(picture: Picture, error: OSError) -> EvaluationError:
    fix = "write it again, or leave out mask and image"
    return EvaluationError(f"the mask cannot be read ({error.__class__.__name__})", where=str(picture.mask), fix=fix)
