"""Masks of a data set's pictures: the class of every pixel of every tile, and what is wrong with a mask.

A mask is one channel of 8 bits, the class of each pixel as its value; of the same size and way up as its picture.
Shapes: H, W of a picture or tile, n tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.base.errors import EvaluationError
from pipeline.sets.listing import Picture
from pipeline.sets.tiles import Place, places
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.mask_values import LOSSY, stored_values

ORIENTATION = 0x0112
"""The EXIF tag by which viewers turn an image and decoders do not."""

IGNORE = 255
"""The class of pixels that count nowhere."""


class Masks:
    """Class indices of a set's pixels; the classes are the values that its train masks have, in order."""

    def __init__(self, train: Sequence[Picture]) -> None:
        self.values = sorted(mask_values(train))
        if not 2 <= len(self.values) <= 64:
            what = f"the train masks have {len(self.values)} values ({', '.join(map(str, self.values[:4]))} …)"
            raise EvaluationError(what, where=str(train[0].mask), fix="two to 64 classes, one value each")
        self._index = np.full(256, IGNORE, np.uint8)
        self._index[self.values] = np.arange(len(self.values))

    def of_tiles(
        self, folder: Path, rows: NDArray[np.int64], pictures: Sequence[Picture], tile_px: int
    ) -> NDArray[np.uint8]:
        """The mask of these tiles of an item, (n, H, W) class indices; `IGNORE` for other values and seen pixels."""
        table = TileReader(folder).table.take(rows)
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
            value_HW = stored_values(mask)
        except OSError as error:
            raise _unreadable(picture, error) from None
    assert value_HW is not None
    return value_HW.astype(np.uint8)


def _opened(picture: Picture) -> Image.Image:
    """A picture's mask. Raises `EvaluationError` for no image, another size or way up than its picture, or colours."""
    assert picture.mask is not None
    try:
        mask = Image.open(picture.mask)
    except (OSError, Image.DecompressionBombError) as error:
        raise _unreadable(picture, error) from None
    try:
        with Image.open(picture.path) as image:
            size, turned = image.size, image.getexif().get(ORIENTATION, 1) != 1
    except (OSError, Image.DecompressionBombError):
        # A picture that does not open is left out, with its mask, and counted.
        size, turned = mask.size, False
    what, fix = "", ""
    if turned:
        what = f"{picture.name} is to be turned by its EXIF orientation; its mask may be of it before or after"
        fix = "store image and mask upright, without the tag"
    elif mask.size != size:
        what = f"the mask is {mask.size[0]} x {mask.size[1]} px, its image {size[0]} x {size[1]}"
        fix = "export it at the image's own size"
    elif mask.mode not in ("L", "P", "1"):
        what = f"the mask is {mask.mode}, not class indices"
        fix = "one channel of 8 bits, the class of each pixel as its value"
    elif mask.format in LOSSY:
        what = f"the mask is a {mask.format}, whose compression makes values up at every border"
        fix = "export it again without loss, as PNG"
    if what:
        mask.close()
        raise EvaluationError(what, where=str(picture.mask), fix=fix)
    return mask


def _unreadable(picture: Picture, error: Exception) -> EvaluationError:
    fix = "write it again, or leave out mask and image"
    return EvaluationError(f"the mask cannot be read ({error.__class__.__name__})", where=str(picture.mask), fix=fix)
