"""The compressed tiles of a tiled TIFF, and their pixels. The only file that opens slides with tifffile.

A whole-slide TIFF is a grid of small images a level, each compressed by itself: what a tile grid needs of it can be
read and decoded once, without a library between that decodes the same tile again for each neighbour. JPEG goes through
the turbo-JPEG binding in its strict mode, because a decoder that goes on after corrupt data makes grey or shifted
tiles; JPEG 2000, deflate and what else tifffile knows go through tifffile to imagecodecs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

_JPEG, _RGB, _YCBCR = 7, 2, 6
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
"""An APP14 segment up to its last byte, which says what the components are: 0 = RGB, 1 = YCbCr."""
_MAX_TILE_PX = 4096


class DamagedTile(ValueError):
    """A tile whose bytes are not there or do not decode."""


@dataclass(frozen=True)
class TiffLevel:
    """One page: `across` x `down` tiles of `tile_w` x `tile_h` px; `header` goes before a JPEG tile's own bytes."""

    width_px: int
    height_px: int
    tile_w: int
    tile_h: int
    across: int
    down: int
    offsets: NDArray[np.int64]
    nbytes: NDArray[np.int64]
    header: bytes | None
    """Of JPEG tiles: start of image, what the components are, and the tables that the tiles share."""
    page: Any = field(repr=False)
    dct_scale: int = 1
    """By which its JPEG tiles are reduced as they are decoded; sizes are those of the reduced level."""


class TiledTiff:
    """The usable levels of a TIFF by their (width, height) in pixels; `close` it. Raises whatever tifffile does."""

    def __init__(self, path: Path) -> None:
        self._tiff = tifffile.TiffFile(path)
        self._file = os.open(path, os.O_RDONLY)
        self.levels: dict[tuple[int, int], TiffLevel] = {}
        try:
            for page in self._tiff.pages:
                level = _level(page)
                if level is not None:
                    self.levels.setdefault((level.width_px, level.height_px), level)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._tiff.close()
        os.close(self._file)

    def compressed(self, level: TiffLevel, tile: int) -> bytes:
        """The bytes of a tile as they are in the file; a JPEG tile as a file of its own, with its tables.

        Raises `DamagedTile` where the file ends before, or a JPEG does not begin as one.
        """
        nbytes = int(level.nbytes[tile])
        data = os.pread(self._file, nbytes, int(level.offsets[tile]))
        if len(data) < nbytes:
            raise DamagedTile("the file ends within it")
        if level.header is None:
            return data
        if not data.startswith(_SOI):
            raise DamagedTile("not a JPEG")
        return level.header + data[2:]

    def decode(self, level: TiffLevel, tile: int, out_HWC: NDArray[np.uint8]) -> None:
        """The tile's RGB pixels into `out_HWC` (tile_h, tile_w, 3) uint8, C-contiguous. Raises `DamagedTile`."""
        data = self.compressed(level, tile)
        if level.header is not None:
            check_jpeg_size(data, (level.tile_w * level.dct_scale, level.tile_h * level.dct_scale))
            try:
                simplejpeg.decode_jpeg(
                    data,
                    "RGB",
                    min_height=level.tile_h,
                    min_width=level.tile_w,
                    min_factor=level.dct_scale,
                    buffer=out_HWC,
                )
            except ValueError as error:
                raise DamagedTile(str(error)) from None
            return
        try:
            pixels, _, _ = level.page.decode(data, tile)
        except Exception as error:
            # Each codec has its own exceptions, and what a damaged stream makes it raise is not documented.
            raise DamagedTile(str(error)) from None
        if pixels is None or pixels.shape[-3:] != (*pixels.shape[-3:-1], 3) or pixels.dtype != np.uint8:
            raise DamagedTile("it decodes to nothing or to other than RGB")
        height, width = pixels.shape[-3:-1]
        out_HWC.fill(255)
        out_HWC[:height, :width] = pixels.reshape(height, width, 3)


def check_jpeg_size(data: bytes, size_px: tuple[int, int]) -> None:
    """Raises `DamagedTile` where a JPEG's own header does not say 3 components of the size (width, height)."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise DamagedTile(str(error)) from None
    if (width, height) != size_px or space not in ("YCbCr", "RGB"):
        raise DamagedTile(f"a JPEG of {width} x {height} px, {space}")


def _level(page: Any) -> TiffLevel | None:
    """What the page says, if it is 8-bit RGB in tiles and its tables are as long as its dimensions ask for."""
    if not isinstance(page, tifffile.TiffPage) or not page.is_tiled:
        return None
    width, height, tile_w, tile_h = (
        int(side) for side in (page.imagewidth, page.imagelength, page.tilewidth, page.tilelength)
    )
    plain = page.samplesperpixel == 3 and page.bitspersample == 8 and int(page.planarconfig) == 1
    if not plain or int(page.photometric) not in (_RGB, _YCBCR) or min(width, height, tile_w, tile_h) < 1:
        return None
    across, down = -(-width // tile_w), -(-height // tile_h)
    if max(tile_w, tile_h) > _MAX_TILE_PX or not len(page.dataoffsets) == len(page.databytecounts) == across * down:
        return None
    offsets, nbytes = (np.array(table, np.int64) for table in (page.dataoffsets, page.databytecounts))
    header = _header(page) if int(page.compression) == _JPEG else None
    return TiffLevel(width, height, tile_w, tile_h, across, down, offsets, nbytes, header, page)


def _header(page: Any) -> bytes:
    """A JPEG file's beginning up to the tile's own segments.

    Without a marker, decoders guess the colour space by the components' names; the TIFF knows, so it is said.
    """
    tables = bytes(page.jpegtables or b"")
    adobe = _ADOBE + (b"\x00" if int(page.photometric) == _RGB else b"\x01")
    return _SOI + adobe + tables.removeprefix(_SOI).removesuffix(_EOI)
